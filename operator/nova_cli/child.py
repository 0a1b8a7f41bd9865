"""The app that `nova dev` starts beside the sidecar."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence

from nova_cli.errors import CommandError


class Child:
    """A process in a session of its own, so that Ctrl-C reaches `nova dev` alone: requests are finished before the app
    is told to end. Signals go to the whole process group, since development servers start processes of their own."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __repr__(self) -> str:
        return f"<Child pid={self._process.pid} code={self._process.returncode}>"

    @classmethod
    async def start(cls, command: Sequence[str], variables: Mapping[str, str]) -> Child:
        """Start a command with further environment variables; its output passes through. Raises CommandError."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, env={**os.environ, **variables}, start_new_session=True
            )
        except OSError as error:
            raise CommandError(f"{command[0]}: cannot be started ({error.strerror})") from error
        return cls(process)

    async def wait(self) -> int:
        """Its exit code; 128 plus the signal's number when a signal ended it, as a shell reports it."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def end(self, grace: float) -> int:
        """Ask it to end, kill it when it has not after `grace` seconds; returns its exit code."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return
