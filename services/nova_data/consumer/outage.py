"""Whether a failure is the message's own or everybody's, without a clock of its own.

A message that cannot be handled must leave, or those behind it wait for ever. But when the database is away no message
can be handled, and a consumer that puts them all aside has lost nothing and helped nobody. So:

* An **outage** is what a handler says is one (`DownstreamError`, a refused connection, what `pause_on` names). It is
  never counted against a message.
* `SUSPECTS` different messages that fail one after the other, none succeeding in between, are taken for an outage too,
  whatever they raise. Each failure still counts as an attempt of that message: where it was their fault after all, they
  leave, slowly.

In an outage nothing is begun. After a while one message is tried; if that succeeds all go on, else the next while is
longer (`nova_data.breaker`). Nothing is skipped.
"""

from random import Random
from typing import Final

from nova_data.breaker import Breaker

SUSPECTS: Final = 5


class Outage:
    """What is known of what handlers need. Times in seconds of a clock that does not step."""

    __slots__ = ("_suspects", "breaker")

    def __init__(self, rng: Random, *, base: float = 0.5, longest: float = 15.0) -> None:
        self.breaker = Breaker(rng, base=base, longest=longest)
        self._suspects: set[str] = set()

    @property
    def there(self) -> bool:
        """Whether nothing is to be begun, except for a probe."""
        return self.breaker.state != "closed"

    def succeeded(self) -> None:
        """A message was handled."""
        self._suspects.clear()
        self.breaker.succeeded()

    def failed(self, position: str, now: float, *, outage: bool) -> None:
        """One was not, for such a reason. What was under way when an outage began tells nothing new of it."""
        if self.breaker.state == "open":
            return
        self._suspects.add(position)
        if outage or self.breaker.state == "half_open" or len(self._suspects) >= SUSPECTS:
            self._suspects.clear()
            self.breaker.failed(now)

    def probe(self, now: float) -> float | None:
        """Seconds until a message may be tried; 0: this one, and `succeeded` or `failed` must follow. None: another one
        is being tried."""
        return None if self.breaker.state == "half_open" else self.breaker.probe(now)

    def __repr__(self) -> str:
        return f"<Outage {self.breaker!r} suspects={len(self._suspects)}>"
