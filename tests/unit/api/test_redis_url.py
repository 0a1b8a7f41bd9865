"""Where a Redis is: each form of URL, and what is wrong with others."""

import pytest

from nova_api.redis_url import Place, place


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://redis", Place("redis", (("redis", 6379),))),
        ("redis://redis:6380/3", Place("redis", (("redis", 6380),), "", 3)),
        ("rediss://redis.data:6379/0", Place("rediss", (("redis.data", 6379),))),
        ("redis://[fd00::1]:7000/", Place("redis", (("fd00::1", 7000),))),
        (
            "redis+sentinel://a,b:26380/sessions/2",
            Place("redis+sentinel", (("a", 26379), ("b", 26380)), "sessions", 2),
        ),
        ("redis+sentinel://a:1/sessions", Place("redis+sentinel", (("a", 1),), "sessions", 0)),
        ("redis+cluster://a:1,b:2,c", Place("redis+cluster", (("a", 1), ("b", 2), ("c", 6379)))),
    ],
)
def test_a_url_says_where(url: str, found: Place) -> None:
    assert place(url) == found


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://redis", "expected redis://"),
        ("redis://", "expected a server"),
        ("redis://a:99999", "expected ports"),
        ("redis://:6379", "expected a host"),
        ("redis://a,b", "expected one server"),
        ("redis://a/x", "expected the number of a database"),
        ("redis://a/0/1", "expected the number of a database"),
        ("redis+sentinel://a:1", "the name of the master"),
        ("redis+sentinel://a:1/m/x", "expected the number of a database"),
        ("redis+cluster://a:1/0", "none with redis"),
    ],
)
def test_what_cannot_work_is_refused_in_words(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        place(url)
