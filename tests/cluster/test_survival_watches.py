"""Watches that are closed again and again, or fall silent without a word."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, SERVICE
from tests.cluster.api import Api, until
from tests.cluster.gate import Gate
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

SILENCE = 2.0


@pytest.fixture(scope="module")
def gate(apiserver: Path, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with Gate(apiserver, tmp_path_factory.mktemp("gate"), bookmarks=0.3) as one:
        yield one


@pytest.fixture(scope="module")
def operator(gate: Gate, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    options = (f"--namespace={namespace}", f"--watch-silence={SILENCE}", "--resync=86400")
    with running(gate.kubeconfig(), log, *options) as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str, operator: OperatorProcess) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        one.create()
        until(lambda: one.find(DEPLOYMENT))
        yield one


def is_put_back(shop: Scene) -> None:
    """Somebody deletes a child, of which only a watch tells: the next list without one is hours away."""
    found = shop.find(SERVICE)
    assert found is not None
    shop.api.delete(SERVICE, shop.namespace, shop.name)
    until(lambda: (now := shop.find(SERVICE)) and now["metadata"]["uid"] != found["metadata"]["uid"])


def test_watches_that_are_closed_again_and_again_lose_nothing(
    gate: Gate, shop: Scene, operator: OperatorProcess
) -> None:
    for places in range(1, 11):
        gate.cut()
        shop.change(backpressure={"maxConcurrency": places})
        gate.cut()
        until(lambda wanted=places: f'"maxConcurrency":{wanted},' in str(shop.find(CONFIG_MAP)))
    is_put_back(shop)
    assert operator.process.poll() is None


def test_a_watch_that_falls_silent_is_opened_anew(gate: Gate, shop: Scene, operator: OperatorProcess) -> None:
    before = len([call for call in gate.calls if call.watch])
    gate.mute()
    is_put_back(shop)
    until(lambda: len([call for call in gate.calls if call.watch]) > before)


def test_probes_tell_of_watches_that_stay_silent(gate: Gate, shop: Scene, operator: OperatorProcess) -> None:
    """They are opened anew, and the connection takes that, but nothing ever comes: as behind a broken proxy."""
    try:
        gate.deaf = True
        until(lambda: operator.http("/readyz")[0] == 503, 30)
        assert "has been silent for" in operator.http("/readyz")[1]
        until(lambda: operator.http("/healthz")[0] == 503, 30)
        assert operator.metric("nova_operator_watch_silence_seconds") > SILENCE
    finally:
        gate.deaf = False
    until(operator.ready, 30)
    until(lambda: operator.http("/healthz")[0] == 200)
    is_put_back(shop)
    assert shop.api.get(NOVA_SERVICE, shop.namespace, shop.name)
