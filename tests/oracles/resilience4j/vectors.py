"""Vectors: a configuration and what happens, for Nova's breaker here and for resilience4j in `Replay.java`."""

from dataclasses import dataclass, field
from random import Random
from typing import Literal

from nova_api.policies import BreakerPolicy, SlowCallPolicy, WindowPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS

SECOND = 1_000_000_000
_OUTCOMES = {"S": SUCCESS, "K": SUCCESS, "F": FAILURE, "C": CANCELLED}


@dataclass(frozen=True)
class Settings:
    """What both understand. Times are nanoseconds, shares percent, `minimum` is at most `size` for COUNT_BASED."""

    window: Literal["COUNT_BASED", "TIME_BASED"] = "COUNT_BASED"
    size: int = 10
    minimum: int = 4
    failures: int = 50
    slow_from: int = SECOND
    slow: int = 100
    wait: int = 5 * SECOND
    probes: int = 1

    @property
    def line(self) -> str:
        numbers = (self.size, self.minimum, self.failures, self.slow_from, self.slow, self.wait, self.probes)
        return f"V {self.window} {' '.join(map(str, numbers))}"

    @property
    def policy(self) -> BreakerPolicy:
        """The same for Nova: no consecutive failures, no growth of the open time and thereby no jitter either."""
        count = self.window == "COUNT_BASED"
        return BreakerPolicy(
            failure_threshold=0,
            window=WindowPolicy(
                type="Count" if count else "Time",
                calls=self.size if count else 100,
                duration=Duration(10 if count else self.size),
                minimum_calls=self.minimum,
                failure_rate=Share(self.failures / 100),
            ),
            slow_call=SlowCallPolicy(duration=Duration(self.slow_from / SECOND), rate=Share(self.slow / 100)),
            success_threshold=self.probes,
            half_open_probes=self.probes,
            open_duration=Duration(self.wait / SECOND),
            max_open_duration=Duration(self.wait / SECOND),
        )


@dataclass
class Vector:
    """Events as they are told to both, and the states that Nova's breaker went through, written as the driver does."""

    settings: Settings
    events: list[str] = field(default_factory=list)
    states: str = ""

    def __post_init__(self) -> None:
        self._now = 0
        self._calls = 0
        self._tickets: dict[int, int] = {}
        self.breaker = Breaker(self.settings.policy, Random(0), 0.0)

    def ask(self, after: int = 0) -> int | None:
        """A call asks for permission so many nanoseconds later; its number when it gets it."""
        self._calls += 1
        now = self._pass(after)
        permitted = self.breaker.admit(now) is None
        if permitted:
            self._tickets[self._calls] = self.breaker.ticket
        self._note(after, "A", self._calls, 0)
        self.states += self._letter.upper() if permitted else self._letter
        return self._calls if permitted else None

    def tell(self, call: int, result: str, duration: int = 0, after: int = 0) -> None:
        """The result of a call that got permission: S, F or C; K is S and told to resilience4j whatever happened."""
        now = self._pass(after)
        self.breaker.record(_OUTCOMES[result], now, self._tickets.pop(call), duration / SECOND)
        self._note(after, result, call, duration)
        self.states += self._letter

    def play(self, script: str) -> None:
        """Short form for single calls, one after the other: S, F, C, L (a slow success), and a digit: so many seconds
        pass. A refused call has no result."""
        after = 0
        for what in script:
            if what.isdigit():
                after += int(what) * SECOND
                continue
            call = self.ask(after)
            after = 0
            if call is not None:
                slow = self.settings.slow_from + 1 if what == "L" else 0
                self.tell(call, "S" if what == "L" else what, slow)

    @property
    def text(self) -> str:
        return "\n".join([self.settings.line, *self.events])

    @property
    def _letter(self) -> str:
        return self.breaker.state[0]

    def _pass(self, nanos: int) -> float:
        self._now += nanos
        return self._now / SECOND

    def _note(self, after: int, what: str, call: int, duration: int) -> None:
        self.events.append(f"{after} {what} {call} {duration}")


def random_vector(rng: Random, length: int) -> Vector:
    """Anything that may happen, where both mean the same (see the test for what is left out, and why)."""
    count = rng.random() < 0.5
    size = rng.randint(1, 20 if count else 6)
    probes = rng.choice((1, 1, 1, 2, 3))
    vector = Vector(
        Settings(
            window="COUNT_BASED" if count else "TIME_BASED",
            size=size,
            minimum=rng.randint(min(probes, size), size if count else 12),
            failures=rng.randint(1, 100),
            slow_from=SECOND // 2,
            slow=rng.choice((100, rng.randint(1, 100))),
            wait=rng.randint(1, 8) * SECOND // 2,
            probes=min(probes, size),
        )
    )
    weights = [rng.random(), rng.random() / 2, rng.random() / 5, rng.random() / 2]
    pace = rng.choice((10_000_000, 200_000_000, 800_000_000))
    flying: list[int] = []

    def step() -> int:
        pause = rng.randrange(1, 20) * SECOND if rng.random() < 0.05 else 0
        return pause + 1 + rng.randrange(pace)

    while len(vector.events) < length:
        if vector.breaker.state != "closed" and vector.settings.probes > 1:
            _recover(vector, rng)
            flying.clear()
        elif flying and (rng.random() < 0.5 or len(flying) > 5):
            call = flying.pop(rng.randrange(len(flying)))
            result = rng.choices("SFCL", weights)[0]
            vector.tell(call, "S" if result == "L" else result, _duration(result, rng), step())
        else:
            call = vector.ask(step())
            if call is not None:
                flying.append(call)
    return vector


def _duration(result: str, rng: Random) -> int:
    return SECOND // 2 + 1 + rng.randrange(SECOND) if result == "L" else rng.randrange(SECOND // 2)


def _recover(vector: Vector, rng: Random) -> None:
    """All probes at once, and all of them succeed. One more is asked for, and refused."""
    asked = [vector.ask(rng.randrange(SECOND) + 1)]
    if asked != [None]:
        asked += [vector.ask(1) for _ in range(vector.settings.probes)]
    probes = [call for call in asked if call is not None]
    rng.shuffle(probes)
    for call in probes:
        vector.tell(call, "S", after=1)
