"""Puts everything in place: cluster, images, Nova itself, the examples. Each step may be repeated and is quick then."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import Provider
from nova_cli.console import Console
from nova_cli.demo.claim import STOREFRONT
from nova_cli.demo.stage import CLIENT, Stage
from nova_cli.errors import CommandError
from nova_cli.images.build import build
from nova_cli.repository import find_repository

SYSTEM_NAMESPACE: Final = "nova-system"
RELEASE: Final = "nova"
IMAGES: Final = ("operator", "sidecar", "services")
SERVICES: Final = ("catalog", "storefront")
BUILD: Final = "nova.dev/build"
NAMESPACE_MANIFEST: Final = """\
apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels: {{pod-security.kubernetes.io/enforce: restricted}}
  annotations: {{nova.dev/build: "{version}"}}
"""


def bring_up(cluster: Provider, console: Console) -> Stage:
    """A running cluster with Nova and the examples in it, ready for traffic. Raises CommandError saying what failed."""
    stage, version = put_up(cluster, console)
    with console.step("apply examples/ and wait for Ready"):
        apply_examples(stage, find_repository() / "examples", version)
    return stage


def put_up(cluster: Provider, console: Console) -> tuple[Stage, str]:
    """A running cluster with Nova in it, and the version of its images. Raises CommandError saying what failed."""
    repository = find_repository()
    with ThreadPoolExecutor(max_workers=2) as pool:
        images = pool.submit(build, console, IMAGES, repository)
        try:
            kubeconfig = cluster.up()
        except CommandError as error:
            console.line(f"{error}; the images are built first, so that the next run has them")
            raise
        archives = images.result()
    cluster.load(archives)
    stage = Stage(toolchain.kubectl(console), kubeconfig)
    version = hashlib.sha256("".join(archive.name for archive in archives).encode()).hexdigest()[:12]
    with console.step("install charts/nova with Helm"):
        install(stage, repository / "charts" / "nova", toolchain.helm(console), version)
    return stage, version


def install(stage: Stage, chart: Path, helm: Path, version: str) -> None:
    """Install or upgrade the chart and wait until the operator runs.

    Images keep the tag `dev`, so a change of their content is told to the pods by an annotation with its `version`.
    """
    run(
        [
            helm,
            f"--kubeconfig={stage.kubeconfig}",
            "upgrade", "--install", RELEASE, chart,
            f"--namespace={SYSTEM_NAMESPACE}", "--create-namespace",
            "--set=operator.image.tag=dev", "--set=sidecar.image.tag=dev", "--set=data.image.tag=dev",
            f"--set-string=operator.podAnnotations.nova\\.dev/build={version}",
            "--wait", "--timeout=120s",
        ],
        timeout=150,
    )  # fmt: skip


def apply_examples(stage: Stage, examples: Path, version: str) -> None:
    """Apply the examples and the client pod, and wait for them."""
    stale = open_namespace(stage, version)
    stage.kubectl("apply", "-f", str(Path(__file__).with_name("direct.yaml")))
    for service in SERVICES:
        stage.kubectl("apply", "-f", str(examples / f"{service}.yaml"))
    if stale:
        stage.kubectl("rollout", "restart", *(f"deployment/{service}" for service in SERVICES))
        for service in SERVICES:
            stage.kubectl("rollout", "status", f"deployment/{service}", "--timeout=120s", patience=130)
    for service in SERVICES:
        stage.kubectl("wait", "--for=condition=Ready", f"novaservice/{service}", "--timeout=120s", patience=130)
    stage.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s", patience=70)
    # kube-proxy gives a Service its endpoints up to a second after they are ready, and refuses connections until then
    if not stage.eventually(lambda: stage.call(STOREFRONT)[0]["status"] == 200, within=30):
        raise CommandError("the storefront does not answer although it is Ready; see its pods' logs")


def open_namespace(stage: Stage, version: str) -> bool:
    """Make the stage's namespace, which enforces Pod Security *restricted*, and the client in it; whether pods of an
    earlier run may be there that have images of other content."""
    stale = _stale(stage, version)
    stage.kubectl("apply", "-f", "-", text=NAMESPACE_MANIFEST.format(name=stage.namespace, version=version))
    if stale:
        stage.kubectl("delete", "pod", CLIENT, "--ignore-not-found")
    stage.kubectl("apply", "-f", str(Path(__file__).with_name("client.yaml")))
    return stale


def _stale(stage: Stage, version: str) -> bool:
    """Whether pods of an earlier run may hold images of other content."""
    found = json.loads(stage.kubectl("get", "namespaces", "-o", "json"))["items"]
    annotations = {item["metadata"]["name"]: item["metadata"].get("annotations", {}) for item in found}
    return stage.namespace in annotations and annotations[stage.namespace].get(BUILD) != version
