-- Health of a NovaService for Argo CD. In its ConfigMap argocd-cm this text is the value of
-- resource.customizations.health.nova.dev_NovaService (https://argo-cd.readthedocs.io/en/stable/operator-manual/health/).
-- An open breaker changes nothing here: what is ill is the upstream.
local health = { status = "Progressing", message = "the operator has not looked at this generation yet" }
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is_true(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

if is_true("Degraded") then
  return { status = "Degraded", message = conditions.Degraded.message }
end
if status.rollout ~= nil and (status.rollout.phase == "Gated" or status.rollout.phase == "Inconclusive") then
  return { status = "Suspended", message = status.rollout.message }
end
if is_true("Ready") and is_true("Converged") and not is_true("Progressing") then
  return { status = "Healthy", message = conditions.Ready.message }
end
if conditions.Progressing ~= nil then
  health.message = conditions.Progressing.message
end
return health
