"""What the webhooks answer when the API server itself does not, or is slow."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nova_operator.admission import hooks
from nova_operator.admission.hooks import Hooks, Policy
from nova_operator.admission.review import Answer, Request
from nova_operator.cluster import UnavailableError
from nova_operator.kinds import SERVICE, Kind
from tests.unit.admission.services import DEFAULTS, document
from tests.unit.admission.test_injection import INJECT, pod

Found = dict[str, Any] | None
Read = Callable[[Kind, str, str], Awaitable[Found]]


class Reading:
    """A cluster that can be read, in the way a test says."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def get(self, kind: Kind, namespace: str, name: str) -> Found:
        return await self._read(kind, namespace, name)


async def broken(_kind: Kind, _namespace: str, _name: str) -> Found:
    raise UnavailableError("GET /x: 503 down")


async def silent(_kind: Kind, _namespace: str, _name: str) -> Found:
    await asyncio.Event().wait()
    raise AssertionError


async def empty(_kind: Kind, _namespace: str, _name: str) -> Found:
    return None


def ask(read: Read, request: Request, policy: Policy = "Ignore") -> Answer:
    one = Hooks(Reading(read), DEFAULTS, policy)
    return asyncio.run(
        one.inject(request) if request.object and "containers" in request.object["spec"] else one.validate(request)
    )


def create(what: dict[str, Any]) -> Request:
    return Request(uid="1", operation="CREATE", namespace="market", name="", object=what)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LOOKUP_TIMEOUT", 0.05)
    monkeypatch.setattr(hooks, "READ_TIMEOUT", 0.05)


@pytest.mark.parametrize(
    ("read", "says"), [(broken, "503 down"), (silent, "did not answer in time"), (empty, "no NovaService")]
)
def test_a_pod_runs_without_the_sidecar_or_not_at_all(read: Read, says: str) -> None:
    lenient = ask(read, create(pod()))
    assert (lenient.allowed, lenient.patch) == (True, ())
    assert says in lenient.warnings[0]
    strict = ask(read, create(pod()), "Fail")
    assert (strict.allowed, says in strict.message) == (False, True)


def test_names_that_are_none_fill_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever reaches the port may send a review."""
    answer = ask(empty, Request(uid="1", operation="CREATE", namespace="n" * 10**6, name="p" * 10**6, object=pod()))
    assert answer.allowed
    assert len(capfd.readouterr().out) < 2_000


def test_a_pod_gets_the_sidecar_of_the_service_of_its_namespace() -> None:
    async def read(kind: Kind, namespace: str, name: str) -> Found:
        return document(**INJECT) if (kind.kind, namespace, name) == ("NovaService", "market", "shop") else None

    answer = ask(read, create(pod()), "Fail")
    assert (answer.allowed, answer.warnings) == (True, ())
    assert any(change["path"] == "/spec/initContainers" for change in answer.patch)


CALLS = {"upstreams": [{"name": f"u{n}", "host": f"host-{n}", "port": 100 + n} for n in range(20)]}


@pytest.mark.parametrize("read", [broken, silent])
def test_nothing_is_said_of_upstreams_that_nobody_knows_of(read: Read) -> None:
    assert ask(read, create(document(**CALLS))) == Answer()


def test_upstreams_that_do_not_exist_are_told_up_to_a_bound_of_questions() -> None:
    asked = []

    async def read(kind: Kind, _namespace: str, name: str) -> Found:
        assert kind is SERVICE
        asked.append(name)
        return None if name == "host-3" else {}

    (warning,) = ask(read, create(document(**CALLS))).warnings
    assert "host-3" in warning
    assert len(asked) == hooks.MAX_LOOKUPS


def test_a_spec_of_a_newer_definition_is_taken_with_a_warning() -> None:
    (warning,) = ask(empty, create(document(novelty=True))).warnings
    assert "$.spec.novelty: this operator is older" in warning
