"""The stage of the reference backend: the demo's own, and people, messages in Kafka, tables and log lines."""

import base64
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from nova_api import names
from nova_cli.demo.stage import CLIENT, Stage
from nova_cli.errors import CommandError

NAMESPACE: Final = "nova-backend"
SOON: Final = 40.0
"""Seconds in which what goes through Kafka must have come; it takes one as a rule."""
DATA: Final = "data"
"""The namespace of the stores, as examples/backend have it in their URLs."""
_TOKEN_SECONDS: Final = 200.0
"""A token is refreshed when it is as old; it holds for 300 s."""
_LONGEST_REFUSAL: Final = 60
_CORRELATION: Final = "x-correlation-id"


@dataclass(frozen=True)
class Answer:
    """What came back; `body` parsed where it is JSON."""

    status: int
    body: Any
    headers: dict[str, str]
    milliseconds: float


@dataclass
class Person:
    """Somebody with an account, and the tokens of a login."""

    email: str
    password: str
    user: str = ""
    access: str = ""
    refresh: str = ""
    since: float = 0.0
    """When the access token came, monotonic seconds."""

    @property
    def credentials(self) -> dict[str, str]:
        """To register and to log in with."""
        return {"email": self.email, "password": self.password}


def stranger(name: str) -> Person:
    """Somebody whom no service knows yet."""
    return Person(f"{name}.{uuid.uuid4().hex[:12]}@people.example", f"{uuid.uuid4()}")


@dataclass(frozen=True)
class Backend(Stage):
    """The demo's stage in the backend's namespace. People are signed up when somebody first asks for them."""

    namespace: str = NAMESPACE
    _people: dict[str, Person] = field(default_factory=dict, repr=False)
    _ports: dict[str, str] = field(default_factory=dict, repr=False)

    # ---- people

    def person(self, name: str) -> Person:
        """Somebody who is logged in, signed up now if need be. Raises CommandError where that fails."""
        if name not in self._people:
            someone = stranger(name)
            self.register(someone)
            self.login(someone)
            self._people[name] = someone
        someone = self._people[name]
        if time.monotonic() - someone.since > _TOKEN_SECONDS:
            self._take(someone, self.ask("POST", "auth", "/refresh", body={"refreshToken": someone.refresh}))
        return someone

    def meet(self, name: str, someone: Person) -> None:
        """From now on this is who is meant by the name."""
        self._people[name] = someone

    def forget(self, name: str) -> None:
        """This person is no more; who asks for one of this name again gets another."""
        self._people.pop(name, None)

    def register(self, someone: Person, *, correlation: str = "") -> Answer:
        """Sign somebody up."""
        answer = self.ask("POST", "auth", "/register", body=someone.credentials, correlation=correlation)
        self._expect(answer, 201, "sign up")
        someone.user = answer.body["userId"]
        return answer

    def login(self, someone: Person) -> Answer:
        """Log somebody in."""
        answer = self.ask("POST", "auth", "/login", body=someone.credentials)
        self._take(someone, answer)
        return answer

    def another_login(self, someone: Person) -> dict[str, str]:
        """The tokens of a login of its own, for a program that renews them itself."""
        answer = self.ask("POST", "auth", "/login", body=someone.credentials)
        self._expect(answer, 200, "log in")
        return {name: answer.body[name] for name in ("accessToken", "refreshToken")}

    def _take(self, someone: Person, answer: Answer) -> None:
        self._expect(answer, 200, "log in")
        someone.access, someone.refresh = answer.body["accessToken"], answer.body["refreshToken"]
        someone.since = time.monotonic()

    @staticmethod
    def _expect(answer: Answer, status: int, what: str) -> None:
        if answer.status != status:
            raise CommandError(f"somebody could not {what}: {answer.status} {str(answer.body)[:200]}")

    # ---- requests

    def url(self, service: str) -> str:
        """Where a service's HTTP is, by the first port of its NovaService that speaks it."""
        if service not in self._ports:
            spoken = [port for port in self.spec(service)["ports"] if port.get("protocol", "http") in _HTTP]
            self._ports[service] = f"http://{service}:{spoken[0]['port']}"
        return self._ports[service]

    def ask(
        self,
        method: str,
        service: str,
        path: str,
        *,
        by: Person | None = None,
        body: Any = None,
        kind: str = "",
        correlation: str = "",
    ) -> Answer:
        """One request from the client pod, with somebody's token, and an id where one is given. A body of a `kind`, a
        media type, is a text that goes as it is, another one goes as JSON. A refusal by a rate limit is waited out, as
        clients should."""
        sent = {_CORRELATION: correlation} if correlation else {}
        if by is not None:
            sent["authorization"] = f"Bearer {by.access}"
        data = body if kind or body is None else json.dumps(body)
        if data is not None:
            sent["content-type"] = kind or "application/json"
        while True:
            (answer,) = self.call(self.url(service) + path, method=method, headers=sent, data=data)
            if answer["status"] != 429:
                return Answer(answer["status"], _parsed(answer["body"]), answer["headers"], answer["ms"])
            time.sleep(min(_LONGEST_REFUSAL, int(answer["headers"].get("retry-after", "1"))))

    def python(self, program: str, *arguments: str, text: str | None = None, patience: float = 90) -> str:
        """Run a program with the services' libraries in the client pod; its output."""
        stdin = ("--stdin",) if text is not None else ()
        return self.kubectl(
            "exec", *stdin, CLIENT, "--", "python3", "-c", program, *arguments, text=text, patience=patience
        )

    def module(self, name: str, *arguments: str, text: str | None = None, patience: float = 90) -> Any:
        """Run a module of the reference services in the client pod; what it prints, parsed."""
        stdin = ("--stdin",) if text is not None else ()
        words = ("exec", *stdin, CLIENT, "--", "python3", "-m", f"nova_services.{name}", *arguments)
        return json.loads(self.kubectl(*words, text=text, patience=patience))

    # ---- what the stores have

    def messages(self, *topics: str, containing: str, count: int = 1, within: float = 15) -> list[dict[str, Any]]:
        """Messages in Kafka that have a text in their value or headers: `count` of them, or those within the time."""
        options = [f"--containing={containing}", f"--count={count}", f"--within={within}"]
        found: list[dict[str, Any]] = self.module("topics", f"--brokers=kafka.{DATA}:9092", *options, *topics)
        return found

    def sql(self, database: str, statements: str) -> str:
        """What PostgreSQL's superuser gets for statements: rows without decoration. They go by standard input."""
        psql = ("psql", "-U", "postgres", "-h", "/run/postgresql", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1")
        return self.kubectl(
            "exec", "--stdin", f"--namespace={DATA}", "postgres-0", "--", *psql, "-f", "-", text=statements
        )

    def lines(self, since: float) -> list[tuple[str, str, dict[str, Any]]]:
        """The log lines of all containers of services in the last `since` seconds: pod, container, parsed line. None as
        long as one of the containers has not begun, since kubectl then gives nobody's."""
        options = ("--all-containers", "--prefix", "--tail=5000", f"--since={max(1, round(since))}s")
        try:
            text = self.kubectl("logs", "-l", names.LABEL_SERVICE, *options, "--max-log-requests=100")
        except CommandError:
            return []
        return [parsed for line in text.splitlines() if (parsed := _line(line)) is not None]

    # ---- kubectl

    def apply(self, documents: Sequence[dict[str, Any]], *, namespace: str = "") -> None:
        """Apply manifests. They go by standard input, since there are Secrets among them."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        where = (f"--namespace={namespace}",) if namespace else ()
        self.kubectl("apply", *where, "-f", "-", text=json.dumps(listed))

    def exists(self, kind: str, name: str, *, namespace: str = "") -> bool:
        """Whether there is such an object."""
        where = f"--namespace={namespace or self.namespace}"
        return bool(self.kubectl("get", kind, name, where, "--ignore-not-found", "-o", "name").strip())

    def secret(self, name: str, key: str) -> str:
        """A value of a Secret."""
        return base64.b64decode(self.get("secret", name)["data"][key]).decode()


_HTTP: Final = ("http", "websocket")


def seconds_until(holds: Callable[[], bool], within: float = SOON) -> float | None:
    """Seconds until it held; None where it did not."""
    begin = time.monotonic()
    return time.monotonic() - begin if Stage.eventually(holds, within=within) else None


def after(seconds: float | None) -> str:
    """In words."""
    return "NEVER" if seconds is None else f"after {seconds:.1f} s"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(text: str) -> tuple[str, str, dict[str, Any]] | None:
    """A line as `kubectl logs --prefix` gives it: [pod/NAME/CONTAINER] LINE; None where it is no JSON."""
    place, _, line = text.partition("] ")
    _, _, place = place.partition("/")
    pod, _, container = place.partition("/")
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return (pod, container, parsed) if isinstance(parsed, dict) else None
