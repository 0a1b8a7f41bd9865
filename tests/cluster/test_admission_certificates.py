"""The webhooks' certificate on a real API server: made, renewed under calls, put back, the same for all replicas."""

import base64
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nova_operator.admission.certificates import Pair, Stored, make, read, write
from nova_operator.kinds import MUTATING_WEBHOOKS, POD, SECRET, VALIDATING_WEBHOOKS
from nova_operator.kube import path_of
from tests.cluster.api import Api, ApiError, Object, until
from tests.cluster.webhooks import HOST, Door, calls, door, free_port, pod

NINETY_DAYS = timedelta(days=90)


@pytest.fixture
def entrance(api: Api, apiserver: Path, namespace: str, tmp_path: Path) -> Iterator[Door]:
    with door(api, namespace, apiserver, tmp_path, policy="Fail") as one:
        yield one


def review(api: Api, namespace: str) -> Object:
    """Have the API server ask the webhook, and nothing stored. Raises ApiError where it got no answer."""
    answered: Object = api.call("POST", path_of(POD, namespace) + "?dryRun=All", pod("nobody"))
    return answered


def stored(entrance: Door) -> Stored:
    return read(entrance.api.get(SECRET, entrance.namespace, entrance.name))


def bundles(entrance: Door) -> set[bytes]:
    kinds = (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)
    found = [hook for kind in kinds for hook in entrance.api.get(kind, None, entrance.name)["webhooks"]]
    return {base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in found}


def test_a_renewal_loses_no_call(api: Api, namespace: str, entrance: Door) -> None:
    """A certificate with a month left is found; another one takes its place while API server and webhook talk."""
    old = make((HOST,), datetime.now(UTC) - timedelta(days=61), NINETY_DAYS)
    api.patch(SECRET, namespace, entrance.name, {"data": write({}, Stored(old))["data"]})
    # A lifetime of a minute means that authorities are given three seconds to be heard of.
    with entrance.operator("--webhook-certificate-lifetime=60") as operator:
        until(lambda: any(old.authority in bundle for bundle in bundles(entrance)))
        until(lambda: answers(api, namespace))
        with calls(lambda: review(api, namespace)) as said:
            until(lambda: stored(entrance).current != old, 30)
            new = stored(entrance).current
            assert new is not None
            expiry = "nova_operator_webhook_certificate_expiry_seconds"
            until(lambda: operator.metric(expiry) < datetime.now(UTC).timestamp() + 61)
            heard = len(said)
            until(lambda: len(said) > heard + 10)
        assert set(said) == {""}
        assert bundles(entrance) == {new.authority + old.authority}


def answers(api: Api, namespace: str) -> bool:
    try:
        return bool(review(api, namespace))
    except ApiError:
        return False


def test_a_bundle_that_somebody_took_away_is_put_back(entrance: Door) -> None:
    with entrance.operator("--webhook-certificate-lifetime=60"):
        until(entrance.trusts)
        hooks = entrance.api.get(MUTATING_WEBHOOKS, None, entrance.name)["webhooks"]
        del hooks[0]["clientConfig"]["caBundle"]
        entrance.api.patch(MUTATING_WEBHOOKS, None, entrance.name, {"webhooks": hooks})
        until(entrance.trusts)


def test_every_replica_answers_and_one_may_go(api: Api, namespace: str, entrance: Door) -> None:
    """The one that is asked does not lead; then it leads, having lost the other one, and goes on answering."""
    election = f"--leader-election-namespace={namespace}"
    with entrance.operator(election, port=free_port()) as first:
        until(first.leads)
        with entrance.operator(election) as second:
            until(lambda: answers(api, namespace))
            assert not second.leads()
            with calls(lambda: review(api, namespace)) as said:
                until(lambda: len(said) > 5)
                first.end()
                until(second.leads)
                heard = len(said)
                until(lambda: len(said) > heard + 5)
            assert set(said) == {""}
            assert second.metric("nova_operator_admission_requests_total") >= len(said)


def test_given_certificates_are_used_and_never_written(api: Api, namespace: str, entrance: Door) -> None:
    given = make((HOST,), datetime.now(UTC), NINETY_DAYS)
    with entrance.operator("--webhook-certificates=given", ready=False) as operator:
        until(lambda: operator.said("no webhook certificate yet"))
        assert operator.http("/readyz")[0] == 503
        api.patch(SECRET, namespace, entrance.name, {"data": write({}, Stored(given))["data"]})
        until(operator.ready)
        hooks = api.get(MUTATING_WEBHOOKS, None, entrance.name)["webhooks"]
        hooks[0]["clientConfig"]["caBundle"] = base64.b64encode(given.authority).decode()
        api.patch(MUTATING_WEBHOOKS, None, entrance.name, {"webhooks": hooks})
        until(lambda: answers(api, namespace))
        assert stored(entrance) == Stored(given)
        assert bundles(entrance) == {given.authority, b""}

        other = make((HOST,), datetime.now(UTC), NINETY_DAYS)
        half = write({}, Stored(Pair(given.certificate, other.key, given.authority)))["data"]
        api.patch(SECRET, namespace, entrance.name, {"data": half})
        until(lambda: operator.said("webhook certificate not usable"))
        assert answers(api, namespace)


def test_a_port_that_is_taken_ends_the_operator_with_a_sentence(entrance: Door) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", entrance.port))
        taken.listen()
        with entrance.operator(ready=False) as operator:
            assert operator.process.wait(timeout=30) == 1
            (ended,) = [line for line in operator.lines() if line["event"] == "ended"]
            assert "address already in use" in ended["error"]


def test_the_key_stays_in_the_secret(api: Api, namespace: str, entrance: Door) -> None:
    with entrance.operator() as operator:
        until(entrance.trusts)
        current = stored(entrance).current
        assert current is not None
        key = current.key.decode().splitlines()[1]
        assert key not in operator.log.read_text()
        assert b"PRIVATE" not in b"".join(bundles(entrance))
