"""A chat that goes on while every pod of messaging is replaced."""

import json
import time
from typing import Final

from nova_api import names
from nova_cli.demo.backend.stage import Backend
from nova_cli.demo.claim import Verdict
from nova_cli.errors import CommandError

_RATE: Final = 4
"""Messages a second of each WebSocket."""
_DEVICES: Final = 2
"""WebSockets of each of the two, so that both pods have some."""
_REPLACED: Final = 280
"""Seconds for all new pods to be ready."""
_LEAVING: Final = 90
"""Seconds in which the old ones must have gone: they close one WebSocket after the other, in 20 s."""


def chat(backend: Backend) -> Verdict:
    """Two people with two devices each talk through a rolling update: everything comes to everybody, once and in order,
    and every WebSocket is closed between two messages, by a code that says so."""
    anna, ben = (backend.person(name) for name in ("anna", "ben"))
    begun = backend.ask("POST", "messaging", "/conversations", by=anna, body={"members": [ben.user]})
    if begun.status != 201:
        raise CommandError(f"no conversation was begun: {begun.status} {str(begun.body)[:200]}")
    logins = [backend.another_login(one) for one in (anna, ben)]
    opening = json.dumps({"conversationId": begun.body["conversationId"], "logins": logins}) + "\n"
    options = (f"--refresh={backend.url('auth')}/refresh", f"--rate={_RATE}", f"--devices={_DEVICES}")
    words = ("python3", "-m", "nova_services.talk", f"{backend.url('messaging')}/chat", *options)
    before = _there(backend)
    with backend.meanwhile(*words, opening=opening) as end:
        begin = time.monotonic()
        backend.kubectl("rollout", "restart", "deployment/messaging")
        status = ("rollout", "status", "deployment/messaging", f"--timeout={_REPLACED}s")
        backend.kubectl(*status, patience=_REPLACED + 10)
        backend.eventually(lambda: before.isdisjoint(_there(backend)), within=_LEAVING, every=1)
        took = time.monotonic() - begin
        said = end()
    figures = (
        f"{said['said']} messages between {len(logins) * _DEVICES} WebSockets while {len(before)} pods were replaced in"
        f" {took:.0f} s: {len(said['lost'])} lost, {len(said['doubled'])} doubled, {said['disordered']} heard out of"
        f" order; {said['reconnects']} reconnects, the longest without one {said['longest']:.2f} s; closed with"
        f" {said['codes']}"
    )
    trouble = {**said["errors"], **({"unclean": said["unclean"]} if said["unclean"] else {})}
    if trouble or said["unanswered"]:
        figures += f"; unanswered {said['unanswered']}, errors {trouble}"
    whole = not (said["lost"] or said["doubled"] or said["disordered"] or said["unanswered"] or trouble)
    return Verdict(whole and said["reconnects"] >= len(logins) * _DEVICES, figures)


def _there(backend: Backend) -> set[str]:
    """The pods of messaging, those that are leaving too."""
    items = backend.get("pods", "-l", f"{names.LABEL_SERVICE}=messaging")["items"]
    return {item["metadata"]["uid"] for item in items}
