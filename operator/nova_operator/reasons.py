"""Reasons of conditions and Events: one word each, for programs. Once published they never change."""

from __future__ import annotations

from typing import Final

# Ready and Progressing
PODS_READY: Final = "PodsReady"
SCALED_TO_ZERO: Final = "ScaledToZero"
ROLLING_OUT: Final = "RollingOut"
STALLED: Final = "Stalled"

# Nothing was written: the spec, the API server or somebody else's object is in the way
SPEC_INVALID: Final = "SpecInvalid"
CHILD_REJECTED: Final = "ChildRejected"
CONFLICT: Final = "Conflict"
WORKLOAD_MISSING: Final = "WorkloadMissing"
WORKLOAD_UNSUITABLE: Final = "WorkloadUnsuitable"

# Converged
CONFIG_CURRENT: Final = "ConfigCurrent"
CONFIG_PENDING: Final = "ConfigPending"
CONFIG_REJECTED: Final = "ConfigRejected"
SIDECAR_UNREACHABLE: Final = "SidecarUnreachable"
NO_PODS: Final = "NoPods"

# Degraded
AS_EXPECTED: Final = "AsExpected"
CRASH_LOOPING: Final = "CrashLooping"
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
CONTAINER_REFUSED: Final = "ContainerRefused"
PODS_REFUSED: Final = "PodsRefused"
UNSCHEDULABLE: Final = "Unschedulable"
SIDECAR_MISSING: Final = "SidecarMissing"
PROGRESS_DEADLINE_EXCEEDED: Final = "ProgressDeadlineExceeded"
DRAIN_BUDGET_TOO_SMALL: Final = "DrainBudgetTooSmall"

# CircuitOpen
BREAKERS_CLOSED: Final = "BreakersClosed"
BREAKERS_OPEN: Final = "BreakersOpen"
NO_UPSTREAMS: Final = "NoUpstreams"
NOT_REPORTED: Final = "NotReported"

# Canary; aborted is a reason of Ready, Degraded and Stalled
CANARY_PROGRESSING: Final = "CanaryProgressing"
CANARY_GATED: Final = "CanaryGated"
CANARY_INCONCLUSIVE: Final = "CanaryInconclusive"
CANARY_PROMOTING: Final = "CanaryPromoting"
CANARY_ABORTED: Final = "CanaryAborted"

# DatabaseReady; what failed is a reason of Ready, Degraded and Stalled
DATABASE_PREPARED: Final = "DatabasePrepared"
DATABASE_PREPARING: Final = "DatabasePreparing"
MIGRATION_FAILED: Final = "MigrationFailed"

# OutboxRelayReady; besides, what keeps pods from running
RELAYS_READY: Final = "RelaysReady"
RELAYS_NOT_READY: Final = "RelaysNotReady"
RELAYS_OFF: Final = "RelaysOff"

# FieldsIgnored
NEWER_DEFINITION: Final = "NewerDefinition"
NO_EFFECT: Final = "NoEffect"

# Events only
CREATED: Final = "Created"
ROLLED_OUT: Final = "RolledOut"
READY_AGAIN: Final = "ReadyAgain"
CONFIG_CHANGED: Final = "ConfigChanged"
RECOVERED: Final = "Recovered"
REPLACED: Final = "Replaced"
CANARY_STARTED: Final = "CanaryStarted"
CANARY_STEP: Final = "CanaryStep"
CANARY_WITHDRAWN: Final = "CanaryWithdrawn"
CANARY_PROMOTED: Final = "CanaryPromoted"
CIRCUIT_OPENED: Final = "CircuitOpened"
CIRCUIT_CLOSED: Final = "CircuitClosed"

DEGRADING: Final = (
    SPEC_INVALID,
    CHILD_REJECTED,
    CONFLICT,
    WORKLOAD_MISSING,
    WORKLOAD_UNSUITABLE,
    CONFIG_REJECTED,
    MIGRATION_FAILED,
    CRASH_LOOPING,
    IMAGE_PULL_FAILED,
    CONTAINER_REFUSED,
    PODS_REFUSED,
    UNSCHEDULABLE,
    SIDECAR_MISSING,
    PROGRESS_DEADLINE_EXCEEDED,
    DRAIN_BUDGET_TOO_SMALL,
    CANARY_ABORTED,
)
"""What Degraded may say: the values of a metric's label."""
