"""`nova rollout` against a real API server and operator."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nova_cli import main
from nova_cli.rollout import tell
from nova_operator.kinds import NOVA_SERVICE
from tests.cluster.api import Api, eventually, until
from tests.cluster.gate import Fault, Gate
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

GATED = [{"weight": 50, "hold": "0s", "gate": True}, {"weight": 100, "hold": "0s", "gate": True}]
SECONDS = 60.0


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(apiserver, log, f"--namespace={namespace}", "--sidecar-poll=0.3") as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        yield one


@pytest.fixture
def nova(apiserver: Path, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command: exit code and what it printed."""
    monkeypatch.setenv("KUBECONFIG", str(apiserver))

    def call(*words: str) -> tuple[int, str]:
        code = main.main(["rollout", words[0], "-n", namespace, *words[1:]])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def test_a_canary_is_watched_promoted_aborted_and_tried_again(
    shop: Scene, operator: OperatorProcess, nova: Any
) -> None:
    shop.settle(replicas=2, rollout={"strategy": "Canary", "steps": GATED, "checks": {"mode": "Off"}})
    assert nova("status", shop.name) == (
        0, f"{shop.name} in {shop.namespace}: no canary (a changed pod template starts one)\n",
    )  # fmt: skip
    code, said = nova("promote", shop.name)
    assert (code, "has no canary under way (Idle); to begin one, change its pod template" in said) == (1, True)
    shop.change(image="registry.example/app:2")
    until(lambda: shop.status()["rollout"]["phase"] == "Gated", SECONDS)
    code, said = nova("status", shop.name)
    assert (code, "step    1 of 2" in said, "with a gate" in said) == (0, True, True)
    code, said = nova("promote", shop.name)
    assert (code, "step    2 of 2" in said) == (0, True)
    code, said = nova("retry", shop.name)
    assert (code, "nothing to retry: its canary is still under way" in said) == (1, True)
    code, said = nova("abort", shop.name)
    assert (code, "Aborted" in said) == (0, True)
    code, said = nova("status", shop.name, "--watch")
    assert (code, "somebody said so: nova rollout abort" in said) == (1, True)
    code, said = nova("promote", shop.name)
    assert (code, "try it again with: nova rollout retry" in said) == (1, True)
    assert nova("retry", shop.name)[0] == 0
    until(lambda: shop.status()["rollout"]["phase"] == "Gated", SECONDS)
    assert nova("promote", shop.name)[0] == 0
    until(lambda: shop.status()["rollout"]["phase"] == "Gated", SECONDS)
    assert nova("promote", shop.name)[0] == 0
    code, said = nova("status", shop.name, "-w")
    assert (code, "Promoted" in said) == (0, True)
    eventually(shop.is_converged, SECONDS)
    over = shop.status()["rollout"]["canary"]
    shop.change(image="registry.example/app:3", rollout={"steps": [{"weight": 100, "hold": "0s"}]})
    code, said = nova("status", shop.name, "-w")
    canary = shop.status()["rollout"]["canary"]
    assert (code, f"Promoted, canary {canary}" in said, canary != over) == (0, True, True)


def test_a_retry_of_what_no_canary_can_try_says_so(shop: Scene, operator: OperatorProcess, nova: Any) -> None:
    shop.settle(replicas=1, rollout={"strategy": "Canary"})
    shop.change(image="registry.example/app:2", ports=[{"port": 8080, "appPort": 9090}])
    until(lambda: shop.status()["rollout"]["phase"] == "Aborted", SECONDS)
    code, said = nova("retry", shop.name)
    assert (code, "was taken back again: ports" in said, "strategy Rolling" in said) == (1, True, True)


def refuse_every_other_look(gate: Gate) -> None:
    """From the second one on."""
    looks = count()
    gate.fault = lambda method, _: Fault(503, "it restarts") if method == "GET" and next(looks) % 2 else None


@pytest.fixture
def gate(apiserver: Path, tmp_path: Path) -> Iterator[Gate]:
    with Gate(apiserver, tmp_path) as one:
        yield one


def test_an_api_server_that_does_not_answer_is_asked_again(
    shop: Scene, operator: OperatorProcess, nova: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settle(replicas=1, rollout={"strategy": "Canary", "steps": GATED, "checks": {"mode": "Off"}})
    shop.change(image="registry.example/app:2")
    until(lambda: shop.status()["rollout"]["phase"] == "Gated", SECONDS)
    monkeypatch.setenv("KUBECONFIG", str(gate.kubeconfig()))
    refuse_every_other_look(gate)
    code, said = nova("abort", shop.name)
    assert (code, "Aborted" in said) == (0, True)
    shop.change(image="registry.example/app:3", rollout={"steps": [{"weight": 100, "hold": "0s"}]})
    refuse_every_other_look(gate)
    code, said = nova("status", shop.name, "-w")
    assert (code, "Promoted" in said) == (0, True)
    assert sum(call.status == 503 for call in gate.calls) > 1
    gate.fault = lambda _method, _path: Fault(503, "it is not there")
    code, said = nova("status", shop.name, "-w")
    assert (code, "503 it is not there" in said) == (1, True)


def test_what_is_missing_is_named(nova: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, said = nova("status", "nobody")
    assert (code, "there is no NovaService nobody in namespace" in said) == (1, True)
    code, said = nova("status", "nobody", "--kubeconfig", str(tmp_path / "none"))
    assert (code, "there is no kubeconfig" in said) == (2, True)
    (tmp_path / "broken").write_text("{}")
    code, said = nova("status", "nobody", "--kubeconfig", str(tmp_path / "broken"))
    assert (code, "cannot reach the API server" in said) == (2, True)


def test_an_operator_that_is_not_there_is_missed(shop: Scene, nova: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tell, "ANSWER_WITHIN", 0.5)
    monkeypatch.setattr(shop, "namespace", "default")
    shop.create(rollout={"strategy": "Canary"})
    status = {"phase": "Gated", "step": 1, "canary": "abc", "started": "2026-01-05T10:00:00Z"}
    shop.api.patch(NOVA_SERVICE, "default", shop.name, {"status": {"rollout": status}}, subresource="status")
    code, said = nova("promote", shop.name, "-n", "default")
    shop.api.delete(NOVA_SERVICE, "default", shop.name)
    assert (code, "the operator has not taken it up" in said) == (1, True)
