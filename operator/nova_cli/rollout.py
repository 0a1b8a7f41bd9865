"""`nova rollout`: look at a canary, and say whether it goes on."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from nova_api import names
from nova_api.status import NovaServiceStatus, RolloutStatus
from nova_cli.errors import CommandError, MissingRequirementError
from nova_cli.rollout_view import describe
from nova_operator import access, reasons
from nova_operator.cluster import ClusterError, StaleError
from nova_operator.kinds import NOVA_SERVICE
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics
from nova_operator.rollout.command import Verb, command_for
from nova_operator.rollout.machine import is_under_way
from nova_operator.status import read

FIELD_MANAGER: Final = "nova-rollout"
PERIOD: Final = 1.0
ANSWER_WITHIN: Final = 15.0
"""Seconds in which the operator has taken up what it was told."""

EPILOG = """\
A service with spec.rollout.strategy Canary gets a changed pod template in steps, beside the version it has. The
operator compares both by their sidecars and takes the new one back when it does worse.

examples:
  nova rollout status shop            where the canary of shop stands
  nova rollout status shop --watch    follow it to its end; fails when it is taken back, or cannot begin
  nova rollout promote shop           go on to the next step now, through a gate or past the hold
  nova rollout abort shop             take the new version back
  nova rollout retry shop             try an aborted version once more

Commands name the canary and the step that you see: one that comes too late fails, and does nothing to a newer canary.

exit codes: 0 done, 1 it failed or the canary was aborted, 2 wrong usage or no cluster, 130 interrupted
"""

_HELP: Final = {
    "status": "show where a canary stands",
    "promote": "go on to the next step now",
    "abort": "take the new version back",
    "retry": "try an aborted version again from the first step",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova rollout`."""
    parser = subparsers.add_parser(
        "rollout",
        help="watch, promote or abort a canary",
        description="Look at the canary of a NovaService, and say whether it goes on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb, text in _HELP.items():
        one = verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.add_argument("name", metavar="NAME", help="the NovaService")
        one.add_argument("-n", "--namespace", metavar="NS", help="its namespace (default: the kubeconfig's)")
        one.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config")
        if verb == "status":
            one.add_argument("-w", "--watch", action="store_true", help="go on until the canary is over")
        one.set_defaults(func=run, verb=verb)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code. Raises CommandError saying what to do."""
    file = _kubeconfig(options.kubeconfig)
    try:
        return asyncio.run(_with_cluster(file, options))
    except ClusterError as error:
        raise CommandError(f"the API server did not do it: {error}") from error


async def _with_cluster(file: Path, options: argparse.Namespace) -> int:
    try:
        configuration = await access.configuration(str(file))
    except ClusterError as error:
        raise MissingRequirementError(str(error)) from error
    async with access.client(configuration) as client:
        service = Service(Kube(client, Metrics()), options.namespace or _namespace(file), options.name)
        if options.verb == "status":
            return await follow(service.get, watch=options.watch)
        return await tell(service, options.verb)


class Service:
    """A NovaService in a cluster."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self.namespace = namespace
        self.name = name

    async def get(self) -> dict[str, Any]:
        """Raises CommandError if there is none."""
        found = await self._kube.get(NOVA_SERVICE, self.namespace, self.name)
        if found is None:
            raise CommandError(
                f"there is no NovaService {self.name} in namespace {self.namespace}; see: kubectl get nsvc -A"
            )
        return found

    async def annotate(self, document: dict[str, Any], value: str) -> None:
        """Write what is wanted. Raises CommandError if the service was made anew meanwhile."""
        metadata = {name: document["metadata"][name] for name in ("name", "namespace", "uid")}
        metadata["annotations"] = {names.ANNOTATION_ROLLOUT: value}
        patch = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind, "metadata": metadata}
        try:
            await self._kube.merge(NOVA_SERVICE, patch, manager=FIELD_MANAGER)
        except StaleError as error:
            raise CommandError(f"{self.name} was made anew meanwhile; look again with: nova rollout status") from error


async def follow(get: Callable[[], Awaitable[dict[str, Any]]], *, watch: bool) -> int:
    """Print where a canary stands and, with `watch`, how it goes on, until what the present spec started is over.

    Returns the exit code. Raises CommandError where that needs somebody.
    """
    said: str | RolloutStatus | None = None
    while True:
        document = await get()
        status = read(document.get("status"))
        ahead = _ahead(document, status) if watch else ""
        if (ahead or status.rollout) != said:
            print(ahead or describe(document, status.rollout, time.time()), flush=True)
            said = ahead or status.rollout
        if not watch or not (ahead or is_under_way(status.rollout)):
            return 1 if status.rollout.phase == "Aborted" else 0
        await asyncio.sleep(PERIOD)


def _ahead(document: dict[str, Any], status: NovaServiceStatus) -> str:
    """What the present spec waits for before its canary begins; empty where it has begun, or none will. Who has just
    changed a template finds the end of the canary before, which says nothing of this one.

    Raises CommandError where the spec cannot be put into force. Of a canary that was taken back the rollout tells, and
    sooner than the condition does.
    """
    metadata = document["metadata"]
    head = f"{metadata['name']} in {metadata['namespace']}"
    if status.observed_generation != metadata["generation"]:
        return f"{head}: the operator has not looked at this spec yet"
    found = {one.type: one for one in status.conditions}
    stalled, database = found.get("Stalled"), found.get("DatabaseReady")
    if stalled is not None and stalled.reason != reasons.CANARY_ABORTED:
        raise CommandError(f"{metadata['name']} goes on only when somebody acts: {stalled.message}")
    if database is None or database.status == "True" or is_under_way(status.rollout):
        return ""
    return f"{head}: waits for its database: {database.message}"


async def tell(service: Service, verb: Verb) -> int:
    """Write down what is wanted of the canary, and wait until the operator has done it; returns the exit code.

    Raises CommandError where that would do nothing, or did nothing since the canary's course was faster.
    """
    document = await service.get()
    before = read(document.get("status")).rollout
    _check(service, verb, before)
    command = command_for(verb, before)
    await service.annotate(document, str(command))
    after = await _until(service.get, lambda rollout: _is_answered(verb, before, rollout))
    if fate := _missed(verb, before, after):
        raise CommandError(
            f"nothing was done: the canary {before.canary} of {service.name} {fate}; "
            f"see what there is now with: nova rollout status {service.name}"
        )
    print(describe(await service.get(), after, time.time()))
    return 0


async def _until(get: Callable[[], Awaitable[dict[str, Any]]], done: Callable[[RolloutStatus], bool]) -> RolloutStatus:
    """Wait for the operator. Raises CommandError if it does not answer."""
    deadline = time.monotonic() + ANSWER_WITHIN
    while not done(rollout := read((await get()).get("status")).rollout):
        if time.monotonic() > deadline:
            raise CommandError(
                "it is written down, but the operator has not taken it up; see: kubectl -n nova-system get pods"
            )
        await asyncio.sleep(PERIOD / 4)
    return rollout


def _is_answered(verb: Verb, before: RolloutStatus, now: RolloutStatus) -> bool:
    """Whether the operator did it, or it is too late for that. What happens to the canary anyway, such as its pods
    becoming ready, is no answer."""
    if now.started != before.started:
        return True
    if verb == "retry":
        return now.phase != "Aborted"
    over = now.phase == "Promoting" or not is_under_way(now)
    return over or (verb == "promote" and now.step != before.step)


def _missed(verb: Verb, before: RolloutStatus, now: RolloutStatus) -> str:
    """What became of the canary that was spoken of, where that was not what somebody wanted; else empty. Who said abort
    must not think that a newer version is taken back, too."""
    if verb == "retry":
        return ""
    if now.started != before.started:
        return "gave way to a change of the spec"
    if verb == "promote":
        return "was taken back" if now.phase == "Aborted" else ""
    return "" if now.phase == "Aborted" else "comes into force already"


def _check(service: Service, verb: Verb, rollout: RolloutStatus) -> None:
    """Refuse what would do nothing, and say what would."""
    under_way = is_under_way(rollout)
    if verb == "retry" and rollout.phase != "Aborted":
        state = "its canary is still under way" if under_way else "no canary of it was aborted"
        raise CommandError(f"{service.name} has nothing to retry: {state}")
    if verb != "retry" and not under_way:
        advice = "try it again with: nova rollout retry" if rollout.phase == "Aborted" else "change its pod template"
        raise CommandError(f"{service.name} has no canary under way ({rollout.phase}); to begin one, {advice}")
    if rollout.phase == "Promoting":
        raise CommandError(
            f"the new version of {service.name} is coming into force already; to go back, apply the old template: it "
            "gets a canary too, and with spec.rollout.strategy Rolling it rolls back without one"
        )


def _kubeconfig(given: str | None) -> Path:
    listed = [file for file in os.environ.get("KUBECONFIG", "").split(os.pathsep) if file]
    file = Path(given or next(iter(listed), "") or Path.home() / ".kube" / "config")
    if not file.is_file():
        raise MissingRequirementError(f"there is no kubeconfig {file}; name one with --kubeconfig or in $KUBECONFIG")
    return file


def _namespace(file: Path) -> str:
    """The namespace that kubectl would use."""
    from kubernetes.aio.config import list_kube_config_contexts  # noqa: PLC0415 - only where no -n is given

    _, active = list_kube_config_contexts(config_file=str(file))
    return str(active["context"].get("namespace") or "default")
