from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_api.policies import Mode, TenantPartitionPolicy
from nova_api.units import Share
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.tenants import TenantPartitions


def partitions(mode: Mode = "Enforce", share: float = 0.5) -> TenantPartitions:
    return TenantPartitions(TenantPartitionPolicy(mode=mode, max_share=Share(share)))


def test_one_tenant_holds_its_share_and_the_others_theirs() -> None:
    tenants = partitions()
    assert [tenants.admit(b"a", 4) for _ in range(3)] == [None, None, Reject(Reason.TENANT_LIMIT, 1.0)]
    assert tenants.admit(b"b", 4) is None
    tenants.leave(b"a")
    assert tenants.admit(b"a", 4) is None
    assert tenants.rejected == 1


def test_everybody_may_have_one_request() -> None:
    tenants = partitions(share=0.01)
    assert tenants.admit(b"a", 1) is None
    assert tenants.admit(b"a", 1) is not None


def test_shadow_counts_and_refuses_nothing() -> None:
    for tenants, rehearse in ((partitions("Shadow"), False), (partitions("Enforce"), True)):
        assert [tenants.admit(b"a", 2, rehearse=rehearse) for _ in range(3)] == [None] * 3
        assert (tenants.would_reject, tenants.rejected) == (2, 0)


def test_names_are_nowhere_to_be_seen() -> None:
    tenants = partitions()
    tenants.admit(b"secret", 10)
    assert tenants.snapshot() == {"active": 1, "rejected": 0, "wouldReject": 0}
    assert repr(tenants) == "<TenantPartitions 1 in flight=1>"


class TenantMachine(RuleBasedStateMachine):
    """The model: a list of who is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants = partitions()
        self.share = 0.5
        self.under_way: list[bytes] = []

    @rule(tenant=st.sampled_from([b"", b"a", b"b", b"c"]), limit=st.integers(1, 12))
    def arrive(self, tenant: bytes, limit: int) -> None:
        held = self.under_way.count(tenant)
        answer = self.tenants.admit(tenant, limit)
        assert (answer is None) == (held == 0 or held + 1 <= self.share * limit)
        if answer is None:
            self.under_way.append(tenant)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.tenants.leave(self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1))))

    @rule(share=st.sampled_from([0.1, 0.5, 1.0]))
    def configure(self, share: float) -> None:
        self.share = share
        self.tenants.configure(TenantPartitionPolicy(mode="Enforce", max_share=Share(share)))

    @invariant()
    def only_who_is_under_way_is_kept(self) -> None:
        assert len(self.tenants) == len(set(self.under_way))


TestTenantMachine = TenantMachine.TestCase
TestTenantMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
