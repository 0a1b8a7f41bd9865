"""The stage of the demo: kubectl, a client pod for real traffic from inside the cluster, and what to look at.

Traffic comes from a pod and not from this machine, because Service addresses are reachable from a pod on every
cluster, local or kind, and because the demo's figures should include kube-proxy and cluster DNS.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from nova_api import names, proxy
from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from nova_cli.cluster.process import run
from nova_cli.errors import CommandError

NAMESPACE: Final = "nova-demo"
CLIENT: Final = "client"
CLIENT_PROGRAM: Final = ("python3", "-m", "nova_services.load")
LONGEST_LOAD: Final = 600


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod of a service."""

    name: str
    uid: str
    ip: str
    restarts: int


@dataclass(frozen=True)
class Stage:
    """Access to a cluster in which Nova and the examples run.

    `kubectl_path` and `kubeconfig` reach it; `restart_seconds` is how long load runs around a rolling restart.
    """

    kubectl_path: Path
    kubeconfig: Path
    namespace: str = NAMESPACE
    restart_seconds: float = 22.0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=2), repr=False)

    def kubectl(self, *args: str, patience: float = 60, text: str | None = None) -> str:
        """Run kubectl in the demo's namespace. Raises CommandError with kubectl's own words."""
        done = run(self.command(*args), stdin=text, timeout=patience, check=False)
        if done.returncode != 0:
            raise CommandError(f"kubectl {' '.join(args[:3])}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        document: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json"))
        return document

    def call(
        self, *urls: str, method: str = "GET", headers: dict[str, str] | None = None, data: str | None = None
    ) -> list[dict[str, Any]]:
        """One request to each URL from the client pod: status, headers, body, ms."""
        options = _headers(headers)
        if data is not None:
            options.append(f"--data={data}")
        answers: list[dict[str, Any]] = json.loads(self._client("call", f"--method={method}", *options, *urls))
        return answers

    def load(
        self, url: str, *, rate: float, seconds: float, fresh: bool = False, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Constant-rate load from the client pod, `fresh`: a client for each request; blocks until its end."""
        options = [f"--rate={rate}", f"--seconds={seconds}", *(["--fresh"] if fresh else []), *_headers(headers)]
        report: dict[str, Any] = json.loads(self._client("run", *options, url, patience=seconds + 60))
        return report

    @contextmanager
    def background_load(
        self, url: str, *, rate: float, seconds: float, fresh: bool = False, headers: dict[str, str] | None = None
    ) -> Iterator[Future[dict[str, Any]]]:
        """The same beside other work; leaving the block waits for its end."""
        future = self._pool.submit(self.load, url, rate=rate, seconds=seconds, fresh=fresh, headers=headers)
        try:
            yield future
        finally:
            future.exception()

    @contextmanager
    def load_meanwhile(self, url: str, *, rate: float, fresh: bool = False) -> Iterator[Callable[[], dict[str, Any]]]:
        """The same for as long as the block takes: load runs when it begins, and ends when what it is given is called,
        which returns the report. At most ten minutes."""
        options = [f"--rate={rate}", f"--seconds={LONGEST_LOAD}", "--until-eof", *(["--fresh"] if fresh else [])]
        with self.meanwhile(*CLIENT_PROGRAM, "run", *options, url) as end:
            yield end

    @contextmanager
    def meanwhile(self, *words: str, opening: str = "") -> Iterator[Callable[[], dict[str, Any]]]:
        """A program in the client pod that runs for as long as the block takes, and has said a line when it begins. It
        gets `opening` by standard input, whose end tells it to end; what is given returns the JSON that it prints then.
        """
        command = self.command("exec", "--stdin", CLIENT, "--", *words)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603 - no shell

            def end() -> dict[str, Any]:
                output, errors = process.communicate(timeout=60)
                if process.returncode != 0:
                    raise CommandError(f"{' '.join(words[:4])}: {errors.strip()[-2000:]}")
                report: dict[str, Any] = json.loads(output)
                return report

            try:
                assert process.stdin is not None  # noqa: S101 - it is a pipe
                assert process.stdout is not None  # noqa: S101 - as above
                process.stdin.write(opening)
                process.stdin.flush()
                process.stdout.readline()
                yield end
            finally:
                process.kill()

    def pods(self, service: str) -> list[Pod]:
        """The service's pods that are not on their way out, by name."""
        items = self.get("pods", "-l", f"{names.LABEL_SERVICE}={service}")["items"]
        return sorted(
            (_pod(item) for item in items if "deletionTimestamp" not in item["metadata"]), key=lambda pod: pod.name
        )

    def logs(self, service: str, container: str) -> str:
        """Recent log lines of one container in all pods of a service."""
        selector = f"{names.LABEL_SERVICE}={service}"
        return self.kubectl("logs", "-l", selector, "-c", container, "--tail=2000", "--since=60s")

    def breakers(self, service: str) -> list[str]:
        """State of every breaker in every sidecar of a service."""
        urls = [f"http://{pod.ip}:{names.STATUS_PORT}/status" for pod in self.pods(service)]
        documents = [json.loads(answer["body"]) for answer in self.call(*urls) if answer["status"] == 200]
        return [state for document in documents for state in document["breakers"].values()]

    def metrics(self, service: str) -> list[tuple[str, dict[str, str], float]]:
        """Every sample of every sidecar of a service: name, labels, value."""
        urls = [f"http://{pod.ip}:{names.STATUS_PORT}/metrics" for pod in self.pods(service)]
        return [
            (sample.name, sample.labels, sample.value)
            for answer in self.call(*urls)
            for family in text_string_to_metric_families(answer["body"])
            for sample in family.samples
        ]

    def spec(self, service: str) -> dict[str, Any]:
        """The NovaService's spec as it is stored: what was written, and the defaults of what was left out beside it."""
        spec: dict[str, Any] = self.get("novaservice", service)["spec"]
        return spec

    def patch(self, service: str, change: dict[str, Any]) -> None:
        """Merge a change into the NovaService."""
        self.kubectl("patch", "novaservice", service, "--type=merge", "-p", json.dumps(change))

    def wanted_hash(self, service: str) -> str:
        """Hash of the proxy document that the NovaService's current spec resolves to."""
        document = self.get("novaservice", service)
        document.pop("status", None)
        return proxy.digest(proxy.encode(resolve(convert(document, NovaService))))

    def settle(self, service: str) -> bool:
        """Wait until no sidecar of the service has a request in flight."""
        urls = [f"http://{pod.ip}:{names.STATUS_PORT}/status" for pod in self.pods(service)]
        return self.eventually(lambda: all(json.loads(a["body"])["inFlight"] == 0 for a in self.call(*urls)), within=15)

    @staticmethod
    def eventually(holds: Callable[[], bool], *, within: float, every: float = 0.2) -> bool:
        """Ask again until it holds; False when it did not within so many seconds."""
        deadline = time.monotonic() + within
        while not holds():
            if time.monotonic() >= deadline:
                return False
            time.sleep(every)
        return True

    def _client(self, *args: str, patience: float = 60) -> str:
        return self.kubectl("exec", CLIENT, "--", *CLIENT_PROGRAM, *args, patience=patience)

    def command(self, *args: str) -> list[str]:
        """The command line of kubectl in the demo's namespace."""
        return [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *args]


def _headers(headers: dict[str, str] | None) -> list[str]:
    """Options of the client's command line."""
    return [f"--header={name}:{value}" for name, value in (headers or {}).items()]


def _pod(item: dict[str, Any]) -> Pod:
    status = item["status"]
    statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return Pod(
        name=item["metadata"]["name"],
        uid=item["metadata"]["uid"],
        ip=status.get("podIP", ""),
        restarts=sum(container["restartCount"] for container in statuses),
    )
