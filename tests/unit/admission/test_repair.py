"""Repair as a story told to the pure part: one pod at a time, never in a storm, never for nothing."""

from typing import Any

from nova_operator.admission.repair import (
    LONGEST_PAUSE,
    PATIENCE,
    PAUSE,
    SPACING,
    InjectedPod,
    Memory,
    Missed,
    choose,
    describe,
    view,
)
from nova_operator.mirror import ServiceKey

SHOP = ServiceKey("market", "shop")


def pod(name: str, **changes: Any) -> InjectedPod:
    return InjectedPod(
        **{"name": name, "uid": name, "ready": True, "leaving": False, "sidecar": False, "replaced": True, **changes}
    )


def test_pods_are_replaced_one_after_the_other() -> None:
    pods = [pod("a"), pod("b"), pod("ok", sidecar=True)]
    first = choose(pods, Memory(), 100.0)
    assert first.pod == pods[0]
    assert choose(pods[1:], first.memory, 100.0 + SPACING - 1).pod is None

    now = 100.0 + SPACING
    waiting = choose([pod("a", leaving=True), *pods[1:]], first.memory, now)
    assert (waiting.pod, waiting.waits_for) == (None, "pod a, which is leaving")
    assert choose(pods[1:], first.memory, now).waits_for == "the successor of the pod replaced last"
    unready = [*pods[1:], pod("new", sidecar=True, ready=False)]
    assert choose(unready, first.memory, now).waits_for == "pod new, which is not ready"
    second = choose([*pods[1:], pod("new", sidecar=True)], first.memory, now)
    assert second.pod == pods[1]


def test_one_that_is_not_ready_goes_first() -> None:
    assert choose([pod("a"), pod("b", ready=False)], Memory(), 0.0).pod == pod("b", ready=False)


def test_pods_that_cannot_be_ready_without_the_sidecar_do_not_wait_for_each_other() -> None:
    pods = [pod("a", ready=False), pod("b", ready=False), pod("bare", ready=False, replaced=False)]
    first = choose(pods, Memory(), 0.0)
    assert first.pod == pods[0]
    starting = [*pods[1:], pod("new", sidecar=True, ready=False)]
    assert choose(starting, first.memory, SPACING).waits_for == "pod new, which is not ready"
    assert choose([*pods[1:], pod("new", sidecar=True)], first.memory, SPACING).pod == pods[1]


def test_a_service_that_was_scaled_down_meanwhile_does_not_wait_for_ever() -> None:
    first = choose([pod("a"), pod("b"), pod("c")], Memory(), 0.0)
    assert choose([pod("b")], first.memory, SPACING + 1).pod is None
    assert choose([pod("b")], first.memory, PATIENCE).pod == pod("b")


def test_a_pod_that_nobody_makes_again_is_left_alone() -> None:
    choice = choose([pod("bare", replaced=False)], Memory(), 0.0)
    assert choice.pod is None
    assert "somebody to delete them" in choice.waits_for


def test_successors_that_come_without_the_sidecar_stop_it_for_longer_and_longer() -> None:
    memory, now, name = Memory(), 0.0, "p0"
    pauses = []
    for number in range(1, 10):
        choice = choose([pod(name)], memory, now)
        assert choice.pod is not None
        name = f"p{number}"
        choice = choose([pod(name)], choice.memory, now + SPACING)
        assert (choice.pod, choice.waits_for) == (None, "the webhook: new pods come without the sidecar, too")
        memory = choice.memory
        pauses.append(memory.not_before - now - SPACING)
        now = memory.not_before
    assert pauses[:3] == [PAUSE, 2 * PAUSE, 4 * PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_nothing_is_done_where_nothing_is_missing() -> None:
    choice = choose([pod("a", sidecar=True)], Memory(), 0.0)
    assert (choice.pod, choice.waits_for, choice.memory) == (None, "", Memory())


def test_a_pod_is_read() -> None:
    owner = {"kind": "ReplicaSet", "controller": True}
    seen = view(
        {
            "metadata": {"name": "a", "uid": "1", "ownerReferences": [owner]},
            "spec": {"initContainers": [{"name": "nova-sidecar"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    assert seen == InjectedPod(name="a", uid="1", ready=True, leaving=False, sidecar=True, replaced=True)
    job = view({"metadata": {"name": "a", "uid": "1", "ownerReferences": [{"kind": "Job", "controller": True}]}})
    assert (job.replaced, job.ready, job.sidecar) == (False, False, False)


def test_news_concern_the_services_whose_words_changed() -> None:
    missed = Missed()
    assert missed.replace({SHOP: "1 pod"}) == {SHOP}
    assert missed.replace({SHOP: "1 pod"}) == set()
    assert missed.words(SHOP) == "1 pod"
    assert missed.replace({}) == {SHOP}
    assert missed.words(SHOP) == ""


def test_the_words_name_a_few_pods() -> None:
    assert describe(["a"], "x") == "1 pod without the sidecar gets no traffic: a; x"
    assert describe(["d", "c", "b", "a"], "x") == "4 pods without the sidecar get no traffic: a, b, c, …; x"
