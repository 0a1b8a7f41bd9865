"""Fields that the API server never changes: an object that needs another value there is replaced, and why is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nova_api import names
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE, Kind
from tests.cluster.api import Api, ApiError, Object, eventually, until
from tests.cluster.operator_process import running


def make_anew(api: Api, kind: Kind, namespace: str, name: str, change: Any) -> Object:
    """Make an object of the service's anew, as a field that cannot change needs."""
    old = api.get(kind, namespace, name)
    metadata = {key: old["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    body = {key: value for key, value in old.items() if key not in {"metadata", "status", "apiVersion", "kind"}}
    change(body)
    while True:
        try:
            api.delete(kind, namespace, name, propagationPolicy="Background")
            return api.create(kind, namespace, {**body, "metadata": metadata})
        except ApiError as error:
            if error.code not in {404, 409}:  # the operator was faster, or the old one is still on its way out
                raise


def headless(body: Object) -> None:
    body["spec"] |= {"clusterIP": "None", "clusterIPs": ["None"]}


def with_an_address(body: Object) -> None:
    for field in ("clusterIP", "clusterIPs"):
        del body["spec"][field]


def other_selector(body: Object) -> None:
    body["spec"]["selector"] = {"matchLabels": {"app": "x"}}
    body["spec"]["template"]["metadata"]["labels"] |= {"app": "x"}


def immutable(body: Object) -> None:
    body |= {"immutable": True, "data": {names.CONFIG_KEY: "{}"}}


STUCK = {
    (SERVICE, "stuck"): (headless, "spec.clusterIP cannot change"),
    (SERVICE, "stuck-endpoints"): (with_an_address, "spec.clusterIP cannot change"),
    (CONFIG_MAP, "stuck-nova"): (immutable, "somebody made it immutable"),
    (DEPLOYMENT, "stuck"): (other_selector, "spec.selector cannot change"),
}


def test_what_can_never_change_is_replaced_with_a_reason(
    apiserver: Path, api: Api, namespace: str, tmp_path: Path
) -> None:
    options = (f"--namespace={namespace}", "--sidecar-image=sidecar:test")
    with running(apiserver, tmp_path / "before", *options):
        api.service(namespace, "stuck")
        until(lambda: all(api.find(*place(namespace, key)) for key in STUCK))
    before = {key: said(api.get(*place(namespace, key))) for key in STUCK}
    theirs = {key: make_anew(api, *place(namespace, key), change) for key, (change, _) in STUCK.items()}
    with running(apiserver, tmp_path / "after", *options) as operator:

        def replaced() -> None:
            for key, old in theirs.items():
                now = api.get(*place(namespace, key))
                assert now["metadata"]["uid"] != old["metadata"]["uid"]
                assert said(now) == before[key]

        def told() -> None:
            lines = [line for line in operator.lines() if line["event"] == "child applied"]
            found = {line["child"]: line["why"] for line in lines}
            assert found == {f"{kind.kind}/{name}": why for (kind, name), (_, why) in STUCK.items()}

        eventually(replaced)
        eventually(told)
        until(lambda: list(api.events(namespace, "stuck")).count("Replaced") == len(STUCK))


def place(namespace: str, key: tuple[Kind, str]) -> tuple[Kind, str, str]:
    return key[0], namespace, key[1]


def said(manifest: Object) -> Object:
    """What it says, without the addresses that are given anew."""
    spec = dict(manifest.get("spec") or {})
    spec["headless"] = spec.pop("clusterIP", None) == "None"
    spec.pop("clusterIPs", None)
    return {"spec": spec, "data": manifest.get("data"), "immutable": manifest.get("immutable")}
