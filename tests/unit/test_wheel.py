"""Deadlines on the wheel, with a loop and a clock made of numbers."""

from collections.abc import Callable
from math import inf
from typing import Any, cast

from nova_sidecar.transport.wheel import TICK, Timed, Wheel


class Loop:
    """Time that moves when told, and the one timer the wheel may have."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: tuple[float, Callable[[], None]] | None = None

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        assert self._due is None, "the wheel has a timer already"
        self._due = (self.now + delay, callback)
        return self

    def cancel(self) -> None:
        self._due = None

    @property
    def asleep(self) -> bool:
        return self._due is None

    def run_until(self, instant: float) -> None:
        while self._due is not None and self._due[0] <= instant:
            (self.now, callback), self._due = self._due, None
            callback()
        self.now = instant


class Alarm(Timed):
    """Notes when it rang."""

    __slots__ = ("rang",)

    def __init__(self) -> None:
        super().__init__()
        self.rang: list[float] = []

    def expire(self, now: float) -> None:
        self.rang.append(now)


def start() -> tuple[Loop, Wheel]:
    loop = Loop()
    return loop, Wheel(cast("Any", loop), lambda: loop.now)


def test_it_rings_once_at_or_shortly_after_its_deadline() -> None:
    loop, wheel = start()
    alarms = {offset: Alarm() for offset in (0.0, 0.01, 0.05, 0.3, 1.0, 7.77)}
    for offset, alarm in alarms.items():
        wheel.arm(alarm, 1000.0 + offset)

    loop.run_until(1020.0)

    for offset, alarm in alarms.items():
        (rang,) = alarm.rang
        assert offset <= rang - 1000.0 <= offset + 2 * TICK + 1e-6


def test_moving_a_deadline_later_is_an_assignment() -> None:
    loop, wheel = start()
    alarm = Alarm()
    wheel.arm(alarm, 1001.0)
    for second in range(1, 9):
        alarm.deadline = 1000.5 + second
        loop.run_until(1000.0 + second)
    assert alarm.rang == []

    loop.run_until(1010.0)
    assert len(alarm.rang) == 1


def test_an_earlier_deadline_is_kept() -> None:
    loop, wheel = start()
    alarm = Alarm()
    wheel.arm(alarm, 1060.0)
    wheel.arm(alarm, 1001.0)

    loop.run_until(1001.2)
    assert len(alarm.rang) == 1
    loop.run_until(1100.0)
    assert len(alarm.rang) == 1


def test_what_was_removed_never_rings() -> None:
    loop, wheel = start()
    kept, gone = Alarm(), Alarm()
    for alarm in (kept, gone):
        wheel.arm(alarm, 1001.0)
    wheel.remove(gone)

    loop.run_until(1100.0)

    assert kept.rang
    assert not gone.rang
    assert gone.wakes == inf


def test_it_sleeps_when_there_is_nothing_to_wait_for_and_wakes_up_again() -> None:
    loop, wheel = start()
    first, second = Alarm(), Alarm()
    assert loop.asleep
    wheel.arm(first, 1000.5)
    assert not loop.asleep
    loop.run_until(1002.0)
    assert loop.asleep

    loop.run_until(5000.0)
    wheel.arm(second, 5001.0)
    loop.run_until(5001.2)
    assert len(second.rang) == 1


def test_an_instant_from_now_is_right_also_when_it_has_slept() -> None:
    loop, wheel = start()
    loop.run_until(5000.0)
    assert loop.asleep
    alarm = Alarm()
    wheel.arm(alarm, wheel.after(75.0))
    loop.run_until(5074.0)
    assert alarm.rang == []
    loop.run_until(5075.2)
    assert len(alarm.rang) == 1


def test_an_alarm_may_arm_itself_and_remove_others_while_it_rings() -> None:
    loop, wheel = start()
    victim = Alarm()

    class Busy(Alarm):
        def expire(self, now: float) -> None:
            super().expire(now)
            wheel.remove(victim)
            wheel.arm(self, now + 1.0)

    busy = Busy()
    wheel.arm(busy, 1000.5)
    wheel.arm(victim, 1000.8)
    loop.run_until(1004.0)

    assert len(busy.rang) == 4
    assert not victim.rang
