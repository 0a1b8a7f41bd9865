"""A token that is replaced and then no longer taken, and replicas whose clocks are hours apart."""

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from nova_operator.kinds import DEPLOYMENT, LEASE, Kind
from tests.cluster.api import Api, eventually, until
from tests.cluster.gate import Gate
from tests.cluster.operator_process import running
from tests.cluster.scene import scene

ROLE_BINDINGS = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings")
ACCOUNTS = Kind("v1", "ServiceAccount", "serviceaccounts")
SECRETS = Kind("v1", "Secret", "secrets")

SKEWED = """
import sys
from datetime import UTC, datetime, timedelta
from nova_operator import election, main

def now():
    return (datetime.now(UTC) - timedelta(hours=7)).isoformat(timespec="microseconds").replace("+00:00", "Z")


election._now = now
sys.exit(main.main(sys.argv[1:]))
"""
"""A replica whose wall clock is seven hours behind: that is all of it that others see."""


def token(api: Api, namespace: str, name: str) -> str:
    """A token of the account `operator` that is good as long as the Secret of that name is there."""
    secret = api.create(SECRETS, namespace, {"metadata": {"name": name}})
    bound = {"kind": "Secret", "apiVersion": "v1", "name": name, "uid": secret["metadata"]["uid"]}
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/operator/token"
    answer: str = api.call("POST", path, asked)["status"]["token"]
    return answer


def works(gate: Gate, bearer: str) -> bool:
    """Whether the API server takes a token."""
    server = json.loads(gate.kubeconfig(tokenFile="token").read_text())["clusters"][0]["cluster"]["server"]
    asked = Request(f"{server}/apis/nova.dev/v1alpha1", headers={"Authorization": f"Bearer {bearer}"})
    try:
        with build_opener(ProxyHandler({})).open(asked, timeout=5):
            return True
    except HTTPError as error:
        error.close()
        return error.code != 401


@pytest.mark.timeout(120)  # the API server remembers for ten seconds that a token was good
def test_a_token_is_replaced_under_way(api: Api, apiserver: Path, tmp_path: Path) -> None:
    with api.namespace() as namespace, Gate(apiserver, tmp_path) as gate, scene(api, namespace) as shop:
        api.create(ACCOUNTS, namespace, {"metadata": {"name": "operator"}})
        subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        api.create(ROLE_BINDINGS, None, {"metadata": {"name": namespace}, "subjects": [subject], "roleRef": role})
        try:
            file = tmp_path / "token"
            first = token(api, namespace, "first")
            file.write_text(first)
            kubeconfig = gate.kubeconfig(tokenFile="token")
            with running(kubeconfig, tmp_path / "log", f"--namespace={namespace}", "--sidecar-poll=0.3") as operator:
                shop.settle()
                file.write_text(token(api, namespace, "second"))
                api.delete(SECRETS, namespace, "first")
                until(lambda: not works(gate, first), 40)
                gate.cut()  # the watches were opened with the first one
                for places in (5, 6, 7):
                    shop.change(backpressure={"maxConcurrency": places})
                    eventually(shop.is_converged, 30)
                until(operator.ready, 30)
                assert operator.process.poll() is None
        finally:
            api.delete(ROLE_BINDINGS, None, namespace)


def test_replicas_whose_clocks_are_hours_apart_take_turns(api: Api, apiserver: Path, tmp_path: Path) -> None:
    """Each counts silence by its own monotonic clock from when it saw the lease change, and compares no times."""
    (tmp_path / "skewed.py").write_text(SKEWED)
    with api.namespace() as namespace:
        options = (f"--namespace={namespace}", f"--leader-election-namespace={namespace}")
        with running(apiserver, tmp_path / "a", *options, program=(str(tmp_path / "skewed.py"),)) as behind:
            until(behind.leads)
            with running(apiserver, tmp_path / "b", *options) as ahead:
                renewed = renewals(api, namespace)
                until(lambda: renewals(api, namespace) > renewed + 1)  # it has looked, and taken nothing over
                assert not ahead.leads()
                api.service(namespace, "shop")
                until(lambda: api.find(DEPLOYMENT, namespace, "shop"))
                behind.end()
                until(ahead.leads)
                with running(apiserver, tmp_path / "c", *options, program=(str(tmp_path / "skewed.py"),)) as again:
                    renewed = renewals(api, namespace)
                    until(lambda: renewals(api, namespace) > renewed + 1)
                    assert (ahead.leads(), again.leads()) == (True, False)
        assert api.get(LEASE, namespace, "nova-operator")["spec"]["leaseTransitions"] == 1


def renewals(api: Api, namespace: str) -> int:
    """Grows with each write of the lease."""
    return int(api.get(LEASE, namespace, "nova-operator")["metadata"]["resourceVersion"])
