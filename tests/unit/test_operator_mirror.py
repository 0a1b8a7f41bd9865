"""The mirror: what is news, what is old, what is gone."""

from typing import Any

from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, POD, TOOL_POD
from nova_operator.mirror import Heard, Mirror, News, ServiceKey, service_key

SHOP = ServiceKey("market", "shop")


def thing(version: int, *, uid: str = "u-1", name: str = "shop", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "market", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": {**metadata, "labels": {"nova.dev/service": "shop"}}, **more}


def test_an_object_is_news_once() -> None:
    mirror = Mirror()
    assert mirror.put(DEPLOYMENT, thing(5))
    assert not mirror.put(DEPLOYMENT, thing(5))


def test_an_older_state_does_not_replace_a_newer_one() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(10, spec={"replicas": 2}))
    assert not mirror.put(DEPLOYMENT, thing(9, spec={"replicas": 1}))
    assert mirror.get(DEPLOYMENT, "market", "shop")["spec"] == {"replicas": 2}  # type: ignore[index]  # it was just put there


def test_a_namesake_with_another_uid_is_news() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(10))
    assert mirror.put(DEPLOYMENT, thing(11, uid="u-2"))


def test_what_is_told_late_of_a_predecessor_does_not_hide_the_one_made_in_its_place() -> None:
    """Else its deletion, told last, would leave nothing, and the service would not be served until the next list."""
    mirror = Mirror()
    mirror.put(NOVA_SERVICE, thing(10))
    mirror.put(NOVA_SERVICE, thing(13, uid="u-2"))
    assert mirror.put(NOVA_SERVICE, thing(11)) is News.NONE
    assert not mirror.drop(NOVA_SERVICE, thing(12))
    assert list(mirror.services()) == [SHOP]


def test_a_late_deletion_does_not_remove_the_namesake() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(10, uid="u-2"))
    assert not mirror.drop(DEPLOYMENT, thing(9, uid="u-1"))
    assert mirror.drop(DEPLOYMENT, thing(11, uid="u-2"))
    assert mirror.get(DEPLOYMENT, "market", "shop") is None


def test_readers_get_copies_without_managed_fields() -> None:
    mirror = Mirror()
    original = thing(1, data={"a": "1"})
    original["metadata"]["managedFields"] = [{"manager": "x"}]
    mirror.put(CONFIG_MAP, original)
    first, second = (mirror.get(CONFIG_MAP, "market", "shop") for _ in range(2))
    assert first is not None
    first["data"]["a"] = "changed"
    assert second is not None
    assert (second["data"], "managedFields" in second["metadata"]) == ({"a": "1"}, False)


def test_what_the_api_server_says_when_asked_wins() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(1))
    mirror.replace(DEPLOYMENT, "market", "shop", None, Heard())
    assert mirror.get(DEPLOYMENT, "market", "shop") is None


def test_what_went_while_it_was_written_stays_gone() -> None:
    """The API server's answer to the write may come after the watch's word that somebody deleted it."""
    mirror = Mirror()
    with mirror.writing() as heard:
        mirror.put(CONFIG_MAP, thing(1))
        mirror.drop(CONFIG_MAP, thing(2))
        mirror.put(DEPLOYMENT, thing(3))
    mirror.written(CONFIG_MAP, thing(1), heard)
    mirror.written(DEPLOYMENT, thing(4), heard)
    assert mirror.get(CONFIG_MAP, "market", "shop") is None
    assert not mirror.put(DEPLOYMENT, thing(4))


def test_an_answer_does_not_undo_what_was_heard_while_it_was_under_way() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(1))
    with mirror.asking() as heard:
        mirror.drop(DEPLOYMENT, thing(2))
        mirror.put(CONFIG_MAP, thing(3))
    mirror.replace(DEPLOYMENT, "market", "shop", thing(1), heard)
    mirror.replace(CONFIG_MAP, "market", "shop", None, heard)
    assert mirror.get(DEPLOYMENT, "market", "shop") is None
    assert mirror.get(CONFIG_MAP, "market", "shop") is not None
    mirror.put(DEPLOYMENT, thing(4))  # heard after the answer: no longer this question's matter
    assert repr(heard) == "<Heard seen=1 gone=1>"


def test_a_namesake_in_the_answer_is_seen_although_its_predecessor_was_heard_to_go() -> None:
    """It may be somebody else's, of which no watch tells; taken for free, its name would be written over."""
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(1))
    with mirror.asking() as heard:
        mirror.drop(DEPLOYMENT, thing(2))
    mirror.replace(DEPLOYMENT, "market", "shop", thing(3, uid="u-2"), heard)
    assert mirror.get(DEPLOYMENT, "market", "shop") is not None


def test_a_list_does_not_undo_what_was_heard_while_it_was_under_way() -> None:
    mirror = Mirror()
    mirror.put(DEPLOYMENT, thing(1))
    with mirror.asking() as heard:
        mirror.drop(DEPLOYMENT, thing(2))
        mirror.put(DEPLOYMENT, thing(3, name="new", uid="u-2"))
    assert mirror.reset(DEPLOYMENT, None, [thing(1)], heard) == set()
    assert mirror.get(DEPLOYMENT, "market", "shop") is None
    assert mirror.get(DEPLOYMENT, "market", "new") is not None


def test_an_answer_about_pods_does_not_undo_what_was_heard_while_it_was_under_way() -> None:
    for by_list in (False, True):
        mirror = Mirror()
        for name in ("gone", "late", "unheard"):
            mirror.put(POD, pod(name, 1, ready=False))
        with mirror.asking() as heard:
            mirror.drop(POD, pod("gone", 2, ready=False))
            mirror.put(POD, pod("late", 3, ready=True))
            mirror.put(POD, pod("new", 4, ready=True))
        answer = [pod("gone", 1, ready=False), pod("late", 1, ready=False), pod("told", 1, ready=True)]
        if by_list:
            assert mirror.reset(POD, "market", answer, heard) == {SHOP}
        else:
            mirror.replace_pods(POD, SHOP, answer, heard)
        assert [(one.name, one.ready) for one in mirror.pods(SHOP)] == [("late", True), ("new", True), ("told", True)]


def test_a_complete_list_says_what_is_gone() -> None:
    mirror = Mirror()
    elsewhere = thing(1, name="far")
    elsewhere["metadata"]["namespace"] = "other"
    for one in (thing(1), thing(1, name="old", uid="u-2"), elsewhere):
        mirror.put(DEPLOYMENT, one)
    mirror.put(CONFIG_MAP, thing(1, name="old"))
    assert mirror.reset(DEPLOYMENT, "market", [thing(2), thing(1, name="new", uid="u-3")], Heard()) == {SHOP}
    there = {name for name in ("shop", "old", "new") if mirror.get(DEPLOYMENT, "market", name)}
    assert there == {"shop", "new"}
    assert mirror.get(DEPLOYMENT, "other", "far") is not None
    assert mirror.get(CONFIG_MAP, "market", "old") is not None
    assert mirror.reset(DEPLOYMENT, None, [], Heard()) == {SHOP, ServiceKey("other", "shop")}
    assert mirror.get(DEPLOYMENT, "other", "far") is None
    assert mirror.reset(DEPLOYMENT, None, [], Heard()) == set()


def test_a_complete_list_of_pods_says_what_is_gone() -> None:
    mirror = Mirror()
    mirror.put(POD, pod("a", 1, ready=True))
    assert mirror.reset(POD, "market", [pod("b", 1, ready=True)], Heard()) == {SHOP}
    assert [one.name for one in mirror.pods(SHOP)] == ["b"]
    assert mirror.reset(POD, "other", [], Heard()) == set()
    assert [one.name for one in mirror.pods(SHOP)] == ["b"]


def test_a_list_says_nothing_of_what_has_no_label() -> None:
    """A Deployment of workloadRef that has none yet, or somebody else's namesake of a child: both were asked for."""
    mirror = Mirror()
    theirs = thing(1)
    theirs["metadata"]["labels"] = {}
    mirror.put(DEPLOYMENT, theirs)
    assert mirror.reset(DEPLOYMENT, None, [], Heard()) == set()
    assert mirror.get(DEPLOYMENT, "market", "shop") is not None
    mirror.clear(DEPLOYMENT)
    assert mirror.get(DEPLOYMENT, "market", "shop") is None


def test_an_older_list_does_not_bring_back_what_a_newer_answer_says_is_gone() -> None:
    mirror = Mirror()
    for name in ("listed", "asked"):
        mirror.put(CONFIG_MAP, thing(1, name=name, uid=name))
    mirror.put(POD, pod("a", 1, ready=True))
    with mirror.asking() as heard:
        mirror.replace(CONFIG_MAP, "market", "asked", None, Heard())
        mirror.reset(CONFIG_MAP, None, [], Heard())
        mirror.reset(POD, None, [], Heard())
    mirror.reset(CONFIG_MAP, None, [thing(1, name=name, uid=name) for name in ("listed", "asked")], heard)
    mirror.reset(POD, None, [pod("a", 1, ready=True)], heard)
    assert repr(mirror) == "<Mirror objects=0 pods=0>"


def pod(name: str, version: int, ready: bool, **metadata: Any) -> dict[str, Any]:
    made = thing(version, uid=f"uid-{name}", name=name)
    made["metadata"] |= metadata
    made["status"] = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return made


def test_pods_are_news_only_when_something_that_matters_changed() -> None:
    mirror = Mirror()
    assert mirror.put(POD, pod("b", 1, ready=False))
    assert not mirror.put(POD, pod("b", 2, ready=False, annotations={"other": "x"}))
    assert mirror.put(POD, pod("b", 3, ready=True))
    assert not mirror.put(POD, pod("b", 2, ready=False))
    assert [(one.name, one.ready) for one in mirror.pods(SHOP)] == [("b", True)]


def test_a_deployments_status_is_news_only_where_it_is_read() -> None:
    mirror = Mirror()
    status = {"observedGeneration": 1, "replicas": 2}

    def put(version: int, **said: Any) -> News:
        return mirror.put(DEPLOYMENT, thing(version, status=status | said))

    def condition(kind: str, value: str, reason: str) -> list[dict[str, str]]:
        return [{"type": kind, "status": value, "reason": reason, "message": "told by its controller"}]

    put(1)
    assert put(2, unavailableReplicas=2) is News.NONE
    assert put(3, conditions=condition("Progressing", "True", "ReplicaSetUpdated")) is News.NONE
    assert put(4, conditions=condition("Progressing", "False", "ProgressDeadlineExceeded")) is News.PROGRESS
    assert put(5, conditions=condition("ReplicaFailure", "True", "FailedCreate")) is News.PROGRESS
    assert put(6) is News.PROGRESS
    assert put(7, availableReplicas=1) is News.PROGRESS


def test_pods_belong_to_their_service_and_come_sorted() -> None:
    mirror = Mirror()
    for name in ("b", "a"):
        mirror.put(POD, pod(name, 1, ready=True))
    assert [one.name for one in mirror.pods(SHOP)] == ["a", "b"]
    assert mirror.drop(POD, pod("a", 2, ready=True))
    assert not mirror.drop(POD, pod("a", 2, ready=True))
    assert [one.name for one in mirror.pods(SHOP)] == ["b"]
    assert mirror.pods(ServiceKey("market", "other")) == ()


def test_a_pod_whose_label_is_changed_leaves_its_service() -> None:
    """As when somebody takes one aside to look at it. It stays in every list of pods, so none would remove it."""
    elsewhere = {"nova.dev/service": "isolated"}
    for by_list in (False, True):
        mirror = Mirror()
        mirror.put(POD, pod("a", 1, ready=True))
        isolated = pod("a", 2, ready=True, labels=elsewhere)
        assert mirror.home(POD, isolated) == SHOP
        if by_list:
            assert mirror.reset(POD, None, [isolated], Heard()) == {SHOP, ServiceKey("market", "isolated")}
        else:
            assert mirror.put(POD, isolated) is News.PROGRESS
        assert mirror.put(POD, pod("a", 1, ready=True)) is News.NONE
        assert (mirror.pods(SHOP), len(mirror.pods(ServiceKey("market", "isolated")))) == ((), 1)
        assert mirror.drop(POD, pod("a", 3, ready=True))
        assert repr(mirror) == "<Mirror objects=0 pods=0>"


def test_an_object_leads_to_its_service() -> None:
    unlabelled = thing(1)
    unlabelled["metadata"]["labels"] = None
    assert service_key(DEPLOYMENT, thing(1, name="anything")) == SHOP
    assert service_key(NOVA_SERVICE, unlabelled) == SHOP
    assert service_key(DEPLOYMENT, unlabelled) is None


def test_the_services_are_known() -> None:
    mirror = Mirror()
    mirror.put(NOVA_SERVICE, thing(1))
    mirror.put(DEPLOYMENT, thing(1))
    assert list(mirror.services()) == [SHOP]
    assert repr(mirror) == "<Mirror objects=2 pods=0>"


def tool(version: int, name: str, *, uid: str) -> dict[str, Any]:
    labels = {"nova.dev/tool-of": "shop", "app.kubernetes.io/name": name}
    metadata = {"name": f"{name}-{uid}", "namespace": "market", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": {**metadata, "labels": labels}}


def test_pods_that_work_for_a_service_are_told_from_its_own_and_from_each_other() -> None:
    mirror = Mirror()
    mirror.put(POD, thing(1, uid="own"))
    assert mirror.put(TOOL_POD, tool(2, "shop-relay", uid="a"))
    assert mirror.put(TOOL_POD, tool(3, "shop-migrate", uid="b"))
    assert [pod.uid for pod in mirror.pods(SHOP)] == ["own"]
    assert [pod.uid for pod in mirror.tools(SHOP, "shop-relay")] == ["a"]
    assert service_key(TOOL_POD, tool(1, "x", uid="c")) == SHOP
    with mirror.asking() as heard:
        assert mirror.reset(TOOL_POD, None, [tool(3, "shop-migrate", uid="b")], heard) == {SHOP}
    assert mirror.tools(SHOP, "shop-relay") == ()
    assert mirror.drop(TOOL_POD, tool(4, "shop-migrate", uid="b"))
    assert [pod.uid for pod in mirror.pods(SHOP)] == ["own"]
