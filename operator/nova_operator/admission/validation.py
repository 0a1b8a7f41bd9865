"""Whether a NovaService may be stored. Pure.

The words are those of the condition Ready=False, because the same code finds them: `spec.read` and `desired_state`.
Never in the way of what must always work: an object that is being deleted, and an update that leaves the spec as it is,
such as a label, a finalizer or the status of a service that an earlier version of Nova let in.
"""

from __future__ import annotations

from nova_operator import spec
from nova_operator.admission.review import Request
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults


def needs_no_look(request: Request) -> bool:
    """Whether it may be stored as it is, whatever its spec says."""
    if request.operation not in {"CREATE", "UPDATE"} or request.object is None:
        return True
    if "deletionTimestamp" in (request.object.get("metadata") or {}):
        return True
    return request.old_object is not None and request.old_object.get("spec") == request.object.get("spec")


def check(request: Request, defaults: Defaults) -> spec.Reading:
    """The service of a request that needs a look. Raises ConfigError naming the field and the rule."""
    document = dict(request.object or {})
    # An object that gets its name by generateName has none yet; what it will be is checked like any other.
    metadata = {"name": request.name or "generated", "namespace": request.namespace, **(document.get("metadata") or {})}
    reading = spec.read({**document, "metadata": metadata})
    desired_state(reading.service, defaults)
    return reading
