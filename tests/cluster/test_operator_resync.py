"""What the operator asks for when nothing happens, and that it finds what no watch told of."""

import time
from pathlib import Path

import pytest

from nova_operator.handlers import WATCHED
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, OPTIONAL_CHILDREN, SERVICE
from nova_operator.resync import JITTER
from tests.cluster.api import Api, until
from tests.cluster.gate import Gate
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene

RESYNC = 1.0
KINDS = len(WATCHED) + len(OPTIONAL_CHILDREN)
ALONE = (f"--resync={RESYNC}", "--discovery=86400", "--injection-poll=86400", "--watch-silence=600")
"""Nothing else is asked for from time to time, and a watch on which nothing comes is believed."""


def have_turns(operator: OperatorProcess, count: int) -> None:
    """Wait until the services had so many turns."""
    before = operator.metric("nova_operator_reconciles_total")
    until(lambda: operator.metric("nova_operator_reconciles_total") >= before + count)


def come_to_rest(operator: OperatorProcess, shops: list[Scene]) -> None:
    """Wait until the services have all they can have here, and all had turns in which nothing was written."""

    def rests() -> bool:
        before = operator.writes()
        have_turns(operator, 3 * len(shops))
        return operator.writes() == before

    until(lambda: all(shop.find(DEPLOYMENT) and shop.conditions() for shop in shops))
    until(rests)


@pytest.mark.parametrize("services", [1, 12])
def test_services_at_rest_cost_as_many_calls_as_one(apiserver: Path, api: Api, tmp_path: Path, services: int) -> None:
    """Each has its turn all the same; the calls are a list of each kind in as much time, whatever there is of it."""
    with (
        api.namespace() as namespace,
        running(apiserver, tmp_path / "log", f"--namespace={namespace}", *ALONE) as operator,
    ):
        shops = [Scene(api, namespace) for _ in range(services)]
        for shop in shops:
            shop.create()
        come_to_rest(operator, shops)
        began, before = time.monotonic(), operator.metric("nova_operator_api_requests_total")
        have_turns(operator, 4 * services)
        calls, lasted = operator.metric("nova_operator_api_requests_total") - before, time.monotonic() - began
    lists = lasted / (RESYNC * (1 - JITTER)) * KINDS
    assert 0 < calls <= lists + 1


def test_what_no_watch_told_of_is_found(apiserver: Path, api: Api, tmp_path: Path) -> None:
    """A child and a service go, a child is changed and a service is made while nothing comes over any watch."""
    with Gate(apiserver, tmp_path) as gate, api.namespace() as namespace:
        kept, leaving, made = (Scene(api, namespace) for _ in range(3))
        with running(gate.kubeconfig(), tmp_path / "log", f"--namespace={namespace}", *ALONE) as operator:
            for shop in (kept, leaving):
                shop.create()
            come_to_rest(operator, [kept, leaving])
            gate.deaf = True
            try:
                api.delete(SERVICE, namespace, kept.name)
                api.patch(CONFIG_MAP, namespace, f"{kept.name}-nova", {"data": None})
                api.delete(NOVA_SERVICE, namespace, leaving.name)
                until(lambda: operator.metric("nova_operator_services") == 1)
                until(lambda: kept.find(SERVICE))
                until(lambda: (kept.find(CONFIG_MAP) or {}).get("data"))
                made.create()
                until(lambda: made.find(DEPLOYMENT))
            finally:
                gate.deaf = False
