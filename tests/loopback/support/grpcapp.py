"""A real gRPC server in a process of its own, with the calls of gRPC's interop tests on plain bytes, and its client.

A request is one line of JSON and a payload; see `request`. The methods are those of grpc/testing/test.proto, so that
the test cases of grpc/doc/interop-test-descriptions.md can be followed one by one.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from .waiting import eventually

SERVICE = "/grpc.testing.TestService/"
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def request(payload: bytes = b"", **wanted: Any) -> bytes:
    """A request: `size` bytes wanted back, after `sleep` seconds, or a `status` with a `message`; `inspect` asks for
    what the server saw instead."""
    return json.dumps(wanted).encode() + b"\n" + payload


class GrpcApp:
    """The server. `stop` lets it leave in order (GOAWAY), `kill` does not."""

    def __init__(self, port: int = 0, name: str = "app", host: str = "127.0.0.1") -> None:
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.loopback.support.grpcapp", host, str(port), name],
            cwd=root, env=os.environ | {"PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = (host, int(line))

    def stop(self) -> None:
        """Ask it to leave, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class GrpcClient:
    """A channel to a listener of the sidecar, closed with the block."""

    def __init__(self, address: tuple[str, int], **options: Any) -> None:
        given = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1), *options.items()]
        self.channel = grpc.insecure_channel(f"{address[0]}:{address[1]}", options=given)
        self.bind()

    def bind(self) -> None:
        """Make the methods, also those of a channel that was put in place of the first one."""
        self.empty = self.channel.unary_unary(f"{SERVICE}EmptyCall")
        self.unary = self.channel.unary_unary(f"{SERVICE}UnaryCall")
        self.upload = self.channel.stream_unary(f"{SERVICE}StreamingInputCall")
        self.download = self.channel.unary_stream(f"{SERVICE}StreamingOutputCall")
        self.duplex = self.channel.stream_stream(f"{SERVICE}FullDuplexCall")

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def inspect(self, **options: Any) -> dict[str, Any]:
        """What the server saw of a call."""
        seen: dict[str, Any] = json.loads(self.unary(request(inspect=True), **({"timeout": 10} | options)))
        return seen

    def code(self, **wanted: Any) -> grpc.StatusCode:
        """The code a unary call ends with."""
        try:
            self.unary(request(**wanted), timeout=10)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK


class _Service(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self.name = name
        self.methods = {
            "EmptyCall": grpc.unary_unary_rpc_method_handler(self.empty),
            "UnaryCall": grpc.unary_unary_rpc_method_handler(self.unary),
            "StreamingInputCall": grpc.stream_unary_rpc_method_handler(self.upload),
            "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(self.download),
            "FullDuplexCall": grpc.stream_stream_rpc_method_handler(self.duplex),
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path: str = details.method
        return self.methods.get(path.removeprefix(SERVICE)) if path.startswith(SERVICE) else None

    def empty(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        self._echo(context)
        return b""

    def unary(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        self._echo(context)
        return self._answer(data, context)

    def upload(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"%d" % sum(len(message) for message in messages)

    def download(self, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        wanted = json.loads(data)
        for size in wanted["sizes"]:
            time.sleep(wanted.get("sleep", 0))
            yield b"\0" * size
        if wanted.get("status"):
            self._end(wanted, context)

    def duplex(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._echo(context)
        for message in messages:
            yield self._answer(message, context)

    def _answer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        line, _, payload = data.partition(b"\n")
        wanted = json.loads(line)
        time.sleep(wanted.get("sleep", 0))
        if wanted.get("status"):
            self._end(wanted, context)
        if wanted.get("inspect"):
            pairs = [
                (key, value if isinstance(value, str) else value.hex()) for key, value in context.invocation_metadata()
            ]
            left = context.time_remaining()
            return json.dumps({"name": self.name, "metadata": pairs, "left": left, "peer": context.peer()}).encode()
        return b"\0" * wanted.get("size", 0) + (payload if wanted.get("echo") else b"")

    @staticmethod
    def _end(wanted: dict[str, Any], context: grpc.ServicerContext) -> None:
        code = next(code for code in grpc.StatusCode if code.value[0] == wanted["status"])
        pairs = [(str(key), str(value)) for key, value in wanted.get("trailers", {}).items()]
        context.set_trailing_metadata(tuple(pairs))
        context.abort(code, wanted.get("message", ""))

    @staticmethod
    def _echo(context: grpc.ServicerContext) -> None:
        seen = dict(context.invocation_metadata())
        if ECHO_INITIAL in seen:
            context.send_initial_metadata(((ECHO_INITIAL, seen[ECHO_INITIAL]),))
        if ECHO_TRAILING in seen:
            context.set_trailing_metadata(((ECHO_TRAILING, seen[ECHO_TRAILING]),))


def main(host: str, port: int, name: str) -> None:
    """Serve until SIGTERM; prints the port."""
    server = grpc.server(futures.ThreadPoolExecutor(32), options=UNLIMITED, compression=grpc.Compression.NoCompression)
    server.add_generic_rpc_handlers((_Service(name),))
    bound = server.add_insecure_port(f"{host}:{port}")
    server.start()
    leave = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    print(bound, flush=True)
    leave.wait()
    server.stop(5).wait()


def serving(address: tuple[str, int]) -> None:
    """Wait until a listener answers calls."""
    with GrpcClient(address) as client:
        eventually(lambda: client.code() is grpc.StatusCode.OK, within=10)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
