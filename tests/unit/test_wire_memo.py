"""The memo of heads: bounded, and only for what comes again."""

from nova_sidecar.wire.memo import GENERATION_BYTES, LARGEST_KEY, Memo


def test_a_head_is_remembered_from_its_second_time() -> None:
    memo: Memo[bytes, int] = Memo()
    memo.offer(b"a", 1)
    assert memo.get(b"a") is None
    memo.offer(b"a", 2)
    assert memo.get(b"a") == 2
    assert memo.young == {b"a": 2}


def test_heads_that_come_once_leave_nothing() -> None:
    memo: Memo[bytes, int] = Memo()
    for number in range(100_000):
        memo.offer(b"%d" % number, number)
    assert len(memo) == 0


def test_long_heads_are_not_remembered() -> None:
    memo: Memo[bytes, int] = Memo()
    for _ in range(3):
        memo.offer(b"a" * (LARGEST_KEY + 1), 1)
    assert len(memo) == 0


def test_it_is_bounded_and_what_is_in_use_survives() -> None:
    memo: Memo[bytes, int] = Memo()
    for number in range(4000):
        key = b"%d" % number + b"x" * 1000
        memo.offer(key, number)
        memo.offer(key, number)
        memo.offer(b"used", -1)
        assert memo.get(b"used") == (-1 if number else memo.get(b"used"))
    assert sum(map(len, memo.young)) <= GENERATION_BYTES
    assert len(memo) <= 2 * GENERATION_BYTES // 1000
    assert memo.get(b"used") == -1
