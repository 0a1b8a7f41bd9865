"""Who of a process's WebSockets is behind, and who may stay, without any."""

from uuid import UUID, uuid4

from nova_services.messaging.hub import Hub
from nova_services.messaging.staying import Closed

ANNA, BEN = uuid4(), uuid4()


class Reader:
    """Notes its signs."""

    def __init__(self, user: UUID, place: int = 0, session: UUID | None = None) -> None:
        self.user = user
        self.place = place
        self.session = session
        self.woken = 0
        self.ended: list[Closed] = []

    def wake(self) -> None:
        self.woken += 1

    def end(self, why: Closed) -> None:
        self.ended.append(why)


def hub(*readers: Reader) -> Hub:
    made = Hub()
    for reader in readers:
        made.join(reader)
    return made


def test_all_windows_of_a_user_are_woken_and_nobody_else() -> None:
    one, two, other = Reader(ANNA), Reader(ANNA), Reader(BEN)
    hub(one, two, other).wake([ANNA, uuid4()])
    assert (one.woken, two.woken, other.woken) == (1, 1, 0)


def test_who_has_read_all_there_is_sleeps_on() -> None:
    behind, level, other = Reader(ANNA, 4), Reader(ANNA, 5), Reader(BEN, 1)
    assert hub(behind, level, other).compare({ANNA: 5, BEN: 1}) == 1
    assert (behind.woken, level.woken, other.woken) == (1, 0, 0)


def test_who_has_left_is_forgotten() -> None:
    one, two = Reader(ANNA), Reader(ANNA)
    made = hub(one, two)
    made.leave(one)
    assert (made.users(), list(made.readers()), len(made)) == ([ANNA], [two], 1)
    made.leave(two)
    made.leave(two)
    assert (made.users(), len(made), repr(made)) == ([], 0, "<Hub users=0 readers=0>")


def test_with_one_too_many_the_oldest_goes_once_and_nobody_elses() -> None:
    made = Hub(2)
    readers = [Reader(ANNA) for _ in range(4)]
    other = Reader(BEN)
    for reader in (readers[0], other, *readers[1:]):
        made.join(reader)
    assert [one.ended for one in readers] == [["crowded"], ["crowded"], [], []]
    assert (other.ended, len(made)) == ([], 3)
    made.leave(readers[0])  # it has closed
    assert made.users() == [ANNA, BEN]


def test_who_has_left_makes_room() -> None:
    made = Hub(2)
    one, two, three = (Reader(ANNA) for _ in range(3))
    made.join(one)
    made.join(two)
    made.leave(one)
    made.join(three)
    assert (two.ended, three.ended) == ([], [])


def test_who_is_of_a_user_or_a_login_that_has_ended_goes() -> None:
    ended, going_on = uuid4(), uuid4()
    of_login, of_other, unknown = Reader(ANNA, session=ended), Reader(ANNA, session=going_on), Reader(ANNA)
    made = hub(of_login, of_other, unknown, erased := Reader(BEN, session=going_on))
    assert sorted(made.sessions()) == sorted([ended, going_on])
    made.dismiss({BEN}, {ended})
    assert (of_login.ended, erased.ended) == (["logged_out"], ["logged_out"])
    assert (of_other.ended, unknown.ended) == ([], [])
