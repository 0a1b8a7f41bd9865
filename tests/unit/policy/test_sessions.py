from nova_sidecar.policy.sessions import Sessions


def test_a_session_seen_before_is_known() -> None:
    sessions = Sessions(b"k" * 16)
    assert [sessions.seen(name) for name in (b"a", b"b", b"a", b"a", b"b")] == [False, False, True, True, True]


def test_the_one_seen_longest_ago_is_forgotten_first() -> None:
    sessions = Sessions(b"k" * 16, limit=2)
    for name in (b"a", b"b", b"a", b"c"):
        sessions.seen(name)
    assert sessions.seen(b"a")
    assert not sessions.seen(b"b")


def test_no_name_is_kept() -> None:
    sessions, others = Sessions(b"k" * 16), Sessions(b"l" * 16)
    for each in (sessions, others):
        each.seen(b"alice@example.org")
    assert b"alice" not in b"".join(sessions._seen)
    assert list(sessions._seen) != list(others._seen), "without the key nobody can try names"
    assert repr(sessions) == "<Sessions 1>"
