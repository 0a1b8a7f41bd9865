"""Who of a process's WebSockets is behind, without any."""

from uuid import UUID, uuid4

from nova_services.messaging.hub import Hub

ANNA, BEN = uuid4(), uuid4()


class Reader:
    """Notes its signs."""

    def __init__(self, user: UUID, place: int = 0) -> None:
        self.user = user
        self.place = place
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


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
