"""Questions to name servers, through c-ares, on the event loop.

c-ares brings its own thread when it is let, and that thread watches /etc/resolv.conf with inotify. The kernel limits
inotify instances per user for a whole node (fs.inotify.max_user_instances, 128), and all sidecars run as one user: a
hundred of them would leave nothing for others. A pod's resolv.conf does not change anyway. So c-ares only tells which
sockets it has, and the loop watches them.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

import pycares

Family = Literal["A", "AAAA"]

TRY_TIMEOUT: Final = 0.4
"""Seconds a server has to answer before the next one is asked, then the first again, for twice as long."""
TRIES: Final = 2
TICK: Final = 0.1
"""How often c-ares looks whether a server's time is up; only while a question is open."""

_TYPES: Final = {"A": pycares.QUERY_TYPE_A, "AAAA": pycares.QUERY_TYPE_AAAA}
_NONE: Final = pycares.ARES_SOCKET_BAD


class AskError(Exception):
    """A question without an answer; `absent` where the servers say that there is none: no such name, or no address
    of this family (then `exists` is true)."""

    def __init__(self, code: int) -> None:
        super().__init__(pycares.errno.strerror(code).lower())
        self.exists = code == pycares.errno.ARES_ENODATA
        self.absent = self.exists or code == pycares.errno.ARES_ENOTFOUND


class NameServers:
    """Asks the servers in turn. An answer to another question is ignored, a truncated one asked for again over TCP."""

    def __init__(self, servers: Sequence[str], *, port: int = 53) -> None:
        self._loop = asyncio.get_running_loop()
        self._readers: set[int] = set()
        self._writers: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._channel = pycares.Channel(
            lookups="b",  # the name servers only, never files
            servers=servers,
            sock_state_cb=self._watch,
            tcp_port=port,
            timeout=TRY_TIMEOUT,
            tries=TRIES,
            udp_port=port,
        )

    def __repr__(self) -> str:
        return f"<NameServers sockets={len(self._readers | self._writers)}>"

    async def ask(self, name: str, family: Family) -> pycares.DNSResult:
        """The answer of the first server that gives one. Raises AskError; the caller sets the deadline."""
        question: asyncio.Future[pycares.DNSResult] = self._loop.create_future()

        def answered(result: pycares.DNSResult, code: int | None) -> None:
            if question.done():
                return
            if code is None:
                question.set_result(result)
            else:
                question.set_exception(AskError(code))

        try:
            self._channel.query(name, _TYPES[family], callback=answered)
            self._arm()
            return await question
        except pycares.AresError as error:
            raise AskError(error.args[0]) from error

    def close(self) -> None:
        """Give up every question (AskError) and close the sockets."""
        self._channel.cancel()
        for descriptor in self._readers | self._writers:
            self._watch(descriptor, False, False)
        if self._timer is not None:
            self._timer.cancel()
        self._channel.close()

    def _watch(self, descriptor: int, readable: bool, writable: bool) -> None:
        """Called by c-ares whenever what it waits for on a socket changes; both False before it closes it."""
        if readable:
            self._readers.add(descriptor)
            self._loop.add_reader(descriptor, self._channel.process_fd, descriptor, _NONE)
        elif descriptor in self._readers:
            self._readers.discard(descriptor)
            self._loop.remove_reader(descriptor)
        if writable:
            self._writers.add(descriptor)
            self._loop.add_writer(descriptor, self._channel.process_fd, _NONE, descriptor)
        elif descriptor in self._writers:
            self._writers.discard(descriptor)
            self._loop.remove_writer(descriptor)

    def _arm(self) -> None:
        """c-ares has sockets as long as it waits for something."""
        if self._timer is None and (self._readers or self._writers):
            self._timer = self._loop.call_later(TICK, self._expire)

    def _expire(self) -> None:
        """Time may be up for a server: let c-ares ask the next one."""
        self._timer = None
        self._channel.process_fd(_NONE, _NONE)
        self._arm()
