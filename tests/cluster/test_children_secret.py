"""The key that session cookies are signed with: made once, never read, never written over."""

import asyncio
import base64
from pathlib import Path

from nova_api import names
from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator import access
from nova_operator.kinds import SECRET
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics
from nova_operator.session_secrets import FIRST_RETRY, LONGEST_RETRY, SessionSecrets
from tests.cluster.api import Api, Object, until
from tests.cluster.operator_process import OperatorProcess

COOKIE: Object = {"sessionAffinity": {"type": "Cookie"}}


def test_the_secret_is_made_once_and_stays_as_it_is(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "shop", **COOKIE)
    made = until(lambda: api.find(SECRET, namespace, names.session_secret("shop")))
    assert len(base64.b64decode(made["data"][names.SESSION_KEY])) == 32
    assert made["metadata"]["ownerReferences"][0]["name"] == "shop"

    api.change(namespace, "shop", replicas=2)
    api.change(namespace, "shop", sessionAffinity={"type": "None"})
    until(lambda: api.conditions(namespace, "shop"))
    api.change(namespace, "shop", sessionAffinity={"type": "Cookie"})
    until(lambda: api.conditions(namespace, "shop"))
    assert api.get(SECRET, namespace, names.session_secret("shop")) == made


def test_a_secret_that_somebody_made_is_taken_as_it_is(api: Api, namespace: str, operator: OperatorProcess) -> None:
    name = names.session_secret("mine")
    theirs = api.create(SECRET, namespace, {"metadata": {"name": name}, "data": {"key": "bWluZQ=="}})
    api.service(namespace, "mine", **COOKIE)
    until(lambda: api.conditions(namespace, "mine"))
    assert api.get(SECRET, namespace, name) == theirs


def test_none_is_made_where_a_secret_is_named(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "named", sessionAffinity={"type": "Cookie", "cookie": {"secret": "own"}})
    until(lambda: api.conditions(namespace, "named"))
    assert api.find(SECRET, namespace, names.session_secret("named")) is None


def test_a_secret_that_is_gone_is_made_again(apiserver: Path, api: Api) -> None:
    """By a clock of the test's own: at first it is tried soon, in case it was a predecessor's and went with it."""
    with api.namespace() as unserved:
        one = convert(api.service(unserved, "gone", **COOKIE), NovaService)
        asyncio.run(comes_back(apiserver, api, one))


async def comes_back(apiserver: Path, api: Api, one: NovaService) -> None:
    now = 1000.0
    namespace, name = one.metadata.namespace, names.session_secret("gone")
    async with access.client(await access.configuration(str(apiserver))) as client:
        made = SessionSecrets(Kube(client, Metrics()), now=lambda: now)
        api.create(SECRET, namespace, {"metadata": {"name": name}})
        assert await made.ensure(one) == FIRST_RETRY
        api.delete(SECRET, namespace, name)
        assert await made.ensure(one) == FIRST_RETRY
        assert api.find(SECRET, namespace, name) is None
        for wait in (FIRST_RETRY, LONGEST_RETRY):
            now += wait
            assert await made.ensure(one) == LONGEST_RETRY
            assert api.find(SECRET, namespace, name) is not None
            api.delete(SECRET, namespace, name)
