"""A proxy in front of the API server that fails as networks and servers do: closes, swallows, refuses.

It speaks plain HTTP on loopback, and to the API server as the administrator; a request with a token goes on as whoever
the token names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

_PASSED_ON = ("Accept", "Authorization", "Content-Type")
_UNTYPED = ("Content-Type",)  # a request without a body has none
_PASSED_BACK = ("Content-Type", "Retry-After")


class Call(NamedTuple):
    """A request that was made, and how it was answered."""

    method: str
    path: str
    watch: bool
    status: int


class Fault(NamedTuple):
    """An answer in the API server's place."""

    status: int
    reason: str
    retry_after: int | None = None

    def response(self) -> web.Response:
        document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": self.reason}
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return web.json_response(document | {"code": self.status}, status=self.status, headers=headers)


class Gate:
    """Use it as a context; `kubeconfig` is what an operator behind it is given."""

    def __init__(self, kubeconfig: Path, folder: Path, *, bookmarks: float = 60.0) -> None:
        """`bookmarks` are the seconds between two of them on a watch; the API server's own interval is a minute."""
        document = json.loads(kubeconfig.read_text())
        self._cluster, self._user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self.fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
        """Asked of each request by method and path; an answer keeps it from the API server."""
        self.held: Callable[[str, str], bool] = lambda _method, _path: False
        """Asked again and again of each request by method and path; it waits as long as it is to."""
        self.waiting = 0
        """Requests that wait."""
        self.deaf = False
        """Whether nothing comes over any watch."""
        self.calls: list[Call] = []
        self._folder = folder
        self._bookmarks = bookmarks
        self._streams: set[asyncio.Task[Any]] = set()
        self._muted: set[asyncio.Task[Any]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._port = 0

    def __enter__(self) -> Gate:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def kubeconfig(self, **user: str) -> Path:
        """A kubeconfig that leads here, with the fields of a user such as tokenFile."""
        file = self._folder / "gate.kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "gate", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}],
            "users": [{"name": "gate", "user": user}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
            "current-context": "gate",
        }
        file.write_text(json.dumps(document))
        return file

    def cut(self) -> None:
        """Break every watch off."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._streams])

    def mute(self) -> None:
        """Nothing comes over the watches of now any more, and nobody closes them."""
        self._loop.call_soon_threadsafe(lambda: self._muted.update(self._streams))

    def watches(self) -> int:
        """Watches that are open."""
        return len(self._streams)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._admin, self._bearer = self._session(as_admin=True), self._session(as_admin=False)
        runner = web.ServerRunner(web.Server(self._pass, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        for task in self._streams:
            task.cancel()
        await runner.cleanup()
        await self._admin.close()
        await self._bearer.close()
        await asyncio.sleep(0.25)  # TLS connections say goodbye, which nothing waits for (aiohttp, graceful shutdown)

    def _session(self, *, as_admin: bool) -> ClientSession:
        context = ssl.create_default_context(cadata=_decode(self._cluster["certificate-authority-data"]).decode())
        if as_admin:
            with tempfile.NamedTemporaryFile() as both:
                user = self._user
                both.write(_decode(user["client-certificate-data"]) + b"\n" + _decode(user["client-key-data"]))
                both.flush()
                context.load_cert_chain(both.name)
        return ClientSession(connector=TCPConnector(ssl=context, limit=0), timeout=ClientTimeout(total=None))

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._hold(request)
        watch = request.query.get("watch") == "true"
        fault = self.fault(request.method, request.path)
        if fault is not None:
            self.calls.append(Call(request.method, request.path, watch, fault.status))
            return fault.response()
        session = self._bearer if "Authorization" in request.headers else self._admin
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        body = await request.read() or None
        url = self._cluster["server"] + request.path_qs
        try:
            async with session.request(
                request.method, URL(url, encoded=True), data=body, headers=headers, skip_auto_headers=_UNTYPED
            ) as answer:
                self.calls.append(Call(request.method, request.path, watch, answer.status))
                back = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
                if watch and answer.status == 200:
                    return await self._stream(request, answer.content, back)
                return web.Response(status=answer.status, headers=back, body=await answer.read())
        except ClientError:
            return Fault(503, "the API server is not there").response()

    async def _hold(self, request: web.BaseRequest) -> None:
        self.waiting += 1
        try:
            while self.held(request.method, request.path):  # noqa: ASYNC110 - set from the thread of a test
                await asyncio.sleep(0.05)
        finally:
            self.waiting -= 1

    async def _stream(self, request: web.BaseRequest, content: Any, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        beat = asyncio.create_task(self._beat(task, request, response))
        try:
            rest = b""
            async for chunk in content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                await self._write(task, response, b"".join(line + b"\n" for line in lines))
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        except ConnectionError:
            pass  # whoever watched has gone
        finally:
            beat.cancel()
            self._streams.discard(task)
            self._muted.discard(task)
        return response

    async def _beat(self, task: Any, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """A bookmark of the version that the watch began with is always true."""
        about = {"kind": "Any", "apiVersion": "v1", "metadata": {"resourceVersion": request.query["resourceVersion"]}}
        line = json.dumps({"type": "BOOKMARK", "object": about}).encode() + b"\n"
        while True:
            await asyncio.sleep(self._bookmarks)
            await self._write(task, response, line)

    async def _write(self, task: Any, response: web.StreamResponse, data: bytes) -> None:
        while self.deaf or task in self._muted:  # noqa: ASYNC110 - set from the thread of a test
            await asyncio.sleep(0.05)
        await response.write(data)


def _decode(text: str) -> bytes:
    return base64.b64decode(text)
