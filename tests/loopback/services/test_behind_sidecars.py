"""Services behind sidecars that have the policies of examples/backend: who gets in, as whom, and for how long."""

import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from nova.auth.v1.auth_pb2 import IntrospectTokenRequest
from nova.auth.v1.auth_pb2_grpc import AuthServiceStub
from nova.users.v1.users_pb2 import CheckBlockRequest
from nova.users.v1.users_pb2_grpc import UsersServiceStub
from websockets.sync.client import connect

from nova_data import correlation
from nova_services import rpc
from tests.loopback.conftest import StartSidecar
from tests.loopback.data.database import Database
from tests.loopback.support.issuer import RS256, Issuer, token
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.sidecar import Sidecar, document, inbound
from tests.loopback.support.tokens import of, policy
from tests.loopback.support.waiting import eventually

from .chatting import begin, closed, hear, messaging, person, prepared
from .process import Answer, Service, running
from .test_auth import PASSWORD, PORTS, write_key

REPOSITORY = Path(__file__).resolve().parents[3]
ACCOUNT = {"email": "anna@example.org", "password": PASSWORD}


@pytest.fixture
def databases(postgres: Postgres) -> Iterator[dict[str, Database]]:
    made = {name: Database(postgres) for name in ("auth", "users")}
    for name, database in made.items():
        migrations = REPOSITORY / f"services/nova_services/{name}/migrations"
        for words in (("outbox", "install"), ("migrate", migrations)):
            assert database.command(*words).returncode == 0
    assert made["users"].command("soft-delete", "install", "--table", "blocks").returncode == 0
    yield made
    for database in made.values():
        database.drop()


class Pod:
    """A service and its sidecar."""

    def __init__(self, name: str, service: Service, auth: Service, start: StartSidecar) -> None:
        example = yaml.safe_load((REPOSITORY / f"examples/backend/{name}.yaml").read_text())["spec"]["jwt"]
        (issuer,) = example["issuers"]
        known = issuer | {"jwksUrl": f"http://127.0.0.1:{auth.port}/.well-known/jwks.json"}
        both = [
            inbound(("127.0.0.1", service.port), "http"),
            inbound(("127.0.0.1", service.grpc_port), "grpc", protocol="grpc"),
        ]
        jwt = policy(issuers=[known], openPaths=example["openPaths"])
        self.service = service
        self._sidecar: Sidecar = start(document(*both, jwt=jwt))

    def ask(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Answer:
        """A request from outside."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"authorization": f"Bearer {token}"} if token else {}
        where = self._sidecar.config.inbound[0].listen
        connection = http.client.HTTPConnection(where.host, where.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), named)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return Answer(answer.status, dict(answer.getheaders()), json.loads(text) if text.startswith(b"{") else text)

    @property
    def grpc(self) -> str:
        """Where other services ask."""
        where = self._sidecar.config.inbound[1].listen
        return f"{where.host}:{where.port}"


@pytest.mark.timeout(180)  # seven processes, on a crowded machine one after the other
def test_people_come_with_tokens_and_services_by_grpc(
    databases: dict[str, Database], start: StartSidecar, tmp_path: Path
) -> None:
    write_key(tmp_path, "2026-01-01")
    nowhere = ("--brokers", "127.0.0.1:1")
    with (
        running("auth", "--keys", str(tmp_path), *PORTS, DATABASE_URL=databases["auth"].url) as auth_service,
        running("users", *PORTS, *nowhere, DATABASE_URL=databases["users"].url) as users_service,
    ):
        auth = Pod("auth", auth_service, auth_service, start)
        users = Pod("users", users_service, auth_service, start)
        user = auth.ask("POST", "/register", ACCOUNT).body["userId"]
        token = auth.ask("POST", "/login", ACCOUNT).body["accessToken"]

        assert users.ask("GET", "/profiles/me").status == 401
        assert users.ask("GET", "/profiles/me", x_nova_subject=user).status == 401
        other = "5e0f2c1a-8f5e-4f57-9d0e-2b1f6a7c8d90"
        mine = users.ask("GET", "/profiles/me", token=token, x_nova_subject=other, x_correlation_id="visit-1")
        assert (mine.status, mine.body["userId"]) == (200, user)
        assert users_service.line("request", correlation_id="visit-1")["path"] == "/profiles/me"
        assert users.ask("GET", "/openapi.json").status == 200

        asyncio.run(_services_ask(users, auth, user, token))
        assert users_service.line("call", correlation_id="check-1")["grpc_status"] == 0

        leaving = {"password": PASSWORD}
        assert auth.ask("DELETE", "/account", leaving).status == 401
        assert auth.ask("DELETE", "/account", leaving, x_nova_subject=user).status == 401
        assert auth.ask("DELETE", "/account", leaving, token=token).status == 200
        assert auth.ask("POST", "/login", ACCOUNT).status == 401


async def _services_ask(users: Pod, auth: Pod, user: str, token: str) -> None:
    """As content would: no token of its own, and the id of the request that it works on."""
    with correlation.bound("check-1", None):
        async with rpc.channel(users.grpc) as channel:
            asked = CheckBlockRequest(user_id=user, other_id=user)
            assert not (await UsersServiceStub(channel).CheckBlock(asked, timeout=5)).blocked
        async with rpc.channel(auth.grpc) as channel:
            said = await AuthServiceStub(channel).IntrospectToken(IntrospectTokenRequest(access_token=token), timeout=5)
            assert (said.active, said.user_id) == (True, user)


def conversing(service: Service, issuer: dict[str, Any], start: StartSidecar) -> str:
    """Where /chat of a process is, behind a sidecar that believes this issuer, and is told the rest by the example."""
    example = yaml.safe_load((REPOSITORY / "examples/backend/messaging.yaml").read_text())["spec"]["jwt"]
    jwt = policy(issuers=[issuer], claimHeaders=example["claimHeaders"])
    sidecar = start(document(inbound(("127.0.0.1", service.port), "http", protocol="websocket"), jwt=jwt))
    where = sidecar.config.inbound[0].listen
    return f"ws://{where.host}:{where.port}/chat"


def test_a_websocket_ends_with_its_token_whatever_the_client_says(postgres: Postgres, start: StartSidecar) -> None:
    issuer = Issuer(RS256.public())
    try:
        with prepared(postgres) as database, messaging(database) as service:
            url = conversing(service, of(issuer, audiences=["nova"]), start)
            given = token(RS256, aud="nova", sub=person(), sid=person(), exp=int(time.time()) + 3)
            spoofed = {"x-nova-expires": "9999999999", "x-nova-session": "none"}
            headers = {"authorization": f"Bearer {given}", **spoofed}
            with connect(url, additional_headers=headers, compression=None, proxy=None) as socket:
                assert hear(socket)["type"] == "ready"
                assert closed(socket) == (4401, "token expired")
    finally:
        issuer.stop()


@pytest.mark.timeout(120)
def test_a_chat_goes_on_through_tokens_that_are_renewed(
    databases: dict[str, Database], postgres: Postgres, start: StartSidecar, tmp_path: Path
) -> None:
    """By the program of the demo, which does what clients should: 2 people with 2 devices each."""
    write_key(tmp_path, "2026-01-01")
    example = yaml.safe_load((REPOSITORY / "examples/backend/messaging.yaml").read_text())["spec"]["jwt"]
    with (
        running("auth", "--keys", str(tmp_path), *PORTS, DATABASE_URL=databases["auth"].url) as auth,
        prepared(postgres) as database,
        messaging(database, "--longest", "1") as service,
    ):
        (issuer,) = example["issuers"]
        url = conversing(service, issuer | {"jwksUrl": f"http://127.0.0.1:{auth.port}/.well-known/jwks.json"}, start)
        people = [{"email": f"{name}@example.org", "password": PASSWORD} for name in ("anna", "ben")]
        users = [auth.call("/register", "POST", one).body["userId"] for one in people]
        opening = {
            "conversationId": begin(service, *users),
            "logins": [auth.call("/login", "POST", one).body for one in people],
        }
        words = (url, f"--refresh=http://127.0.0.1:{auth.port}/refresh", "--rate=5", "--devices=2")
        command = [sys.executable, "-m", "nova_services.talk", *words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as talk:
            assert talk.stdin is not None
            talk.stdin.write(json.dumps(opening) + "\n")
            talk.stdin.flush()
            expired = 'nova_messaging_sockets_closed_total{reason="expired"}'
            eventually(lambda: service.metric(expired) >= 8, within=20)
            output, _ = talk.communicate(timeout=60)
        said = json.loads(output.splitlines()[-1])
        assert said["said"] > 10
        assert (said["lost"], said["doubled"], said["disordered"], said["unanswered"]) == ([], [], 0, 0)
        assert (said["errors"], said["unclean"]) == ({}, 0)
        assert said["codes"]["4401"] >= 8
        assert auth.metric('nova_auth_refreshes_total{result="ok"}') >= 4
        assert auth.metric('nova_auth_refreshes_total{result="reused"}') == 0
