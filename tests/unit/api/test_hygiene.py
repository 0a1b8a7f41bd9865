"""What may leave in a log line: examples of each kind, random ones, and what has to stay as it is."""

import time
import uuid
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nova_api import hygiene
from nova_api.hygiene import (
    LONGEST,
    REDACTED,
    Cleaned,
    clean,
    clean_event,
    clean_method,
    clean_path,
    error_fields,
    spotless,
    tells,
)
from tests.secrets import ANY, TABLE, Secret


@pytest.mark.parametrize("secret", TABLE, ids=lambda one: f"{one.kind} {one.text[:24]}")
@pytest.mark.parametrize("around", ["{}", "connection to {} refused", "[{}]", "'{}'", "a\n{}\nb"])
def test_what_must_not_be_logged(secret: Secret, around: str) -> None:
    found = clean(around.format(secret.text))
    assert secret.found_in(found) == []
    assert REDACTED in found
    assert tells(around.format(secret.text))


@settings(max_examples=300, deadline=None)
@given(secret=ANY, before=st.text(max_size=20), after=st.text(max_size=20))
def test_random_ones_among_random_text(secret: Secret, before: str, after: str) -> None:
    """A blank stands around them: what is glued to them may make something else of them, such as a longer number."""
    assume(not secret.found_in(f"{before} {after}"))
    assert secret.found_in(clean(f"{before} {secret.text} {after}")) == []


@settings(max_examples=200, deadline=None)
@given(secret=ANY, other=ANY, name=st.sampled_from(("error", "message", "path", "note")))
def test_random_ones_in_any_shape_of_a_line(secret: Secret, other: Secret, name: str) -> None:
    line = {name: {"a": [secret.text, ("x", {other.text: 1})]}, "count": 3}
    found = repr(clean_event(line))
    assert secret.found_in(found) == []
    assert other.found_in(found) == []


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_a_clean_text_is_clean_and_shows_all_it_has(text: str) -> None:
    found = clean(text)
    assert found.isprintable()
    assert len(found) <= 10 * len(text) + len(REDACTED)


@pytest.mark.parametrize(
    "text",
    [
        "", "serving", "is it there?", "why? because", "basic authentication is off", "/v1/orders/123", "a?b",
        "http://auth-service:8080/login", "connection to 10.0.0.1:5432 refused", "expected int, got str - at `$.a`",
        "digest mismatch", "$.outbound[0].retry: attempts=3", "/shop.v1.Catalog/ListItems", "10.244.120.130:15100",
        "550e8400-e29b-41d4-a716-446655440000", "/u/12345678-1234-4234-8234-123456789012/x", "/orders/20261129",
        "4bf92f3577b34da6a3ce929d0e0e4736", "2026-11-29 15:30:56.123456", "2026-11-29T15:30:56.123456Z", "+1.5 s",
        "fd00:10:244:1:1234:5678:9abc:def0", "nova/sidecar@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
        "shop-7d9f8b6c5d-x2x9k", "Deployment/shop", "no answer within 0.30000000000000004 s", "/static/app.3f9a1b2c.js",
        'secrets "shop-session" is forbidden: User "system:serviceaccount:nova-system:nova-operator" cannot get it',
        "spec.sessionAffinity.redis.secret: expected the name of a Secret", "cookie: expected letters",
        "1234567890123456", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "100 % of 20%", "%zz", "/a/b/../c;v=1", "key of a Secret",
        "no token given", "/usr/lib/python3.11/asyncio/base_events.py:1038 run_forever",
        "expected 1, 2, 3, 4, 5, 6, 7, 8, 9 or 10",
    ],
)  # fmt: skip
def test_ordinary_texts_stay(text: str) -> None:
    assert clean(text) == text
    assert not tells(text)


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "password", "db_passwd", "passphrase", "token",
        "access_token", "client-secret", "api_key", "apiKey", "x-api-key", "private_key", "credentials", "sessionId",
    ],
)  # fmt: skip
def test_the_value_under_a_telling_key(key: str) -> None:
    assert clean_event({key: "hunter2"}) == {key: REDACTED}


def test_inside_of_containers() -> None:
    event: dict[str, Any] = {"a": [{"token": 5}, ("Bearer abc123", 7)], "b": {"c": {"cookie": "x"}, 3: None}}
    assert clean_event(event) == {
        "a": [{"token": REDACTED}, [f"Bearer {REDACTED}", 7]],
        "b": {"c": {"cookie": REDACTED}, "3": None},
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('a"}\n{"level":"critical"', 'a"}\\n{"level":"critical"'),
        ("\r\n\x00\x1b[31mred\x1b[0m", "\\r\\n\\x00\\x1b[31mred\\x1b[0m"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("a\u2028b\u2029c\u0085d", "a\\u2028b\\u2029c\\x85d"),
        ("invoice\u202egnp.exe", "invoice\\u202egnp.exe"),
        ("caf\udce9.json", "caf\\udce9.json"),
        ("ü 😀", "ü 😀"),
    ],
)
def test_nothing_acts_in_place_of_being_shown(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_long_texts_are_cut_and_what_begins_before_the_cut_is_found_whole() -> None:
    assert clean("x" * (LONGEST + 1)) == "x" * LONGEST + "…"
    assert len(clean("é" * 100_000)) == LONGEST + 1
    for secret in TABLE:
        text = ("x" * 997 + " ") * 4
        padded = text[: LONGEST - len(secret.text) // 2 - 1] + " " + secret.text + " y" * 5000
        assert secret.found_in(clean(padded)) == [], secret


def test_containers_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"a": deep}
    assert REDACTED in repr(clean_event(deep))
    found = clean_event({"many": list(range(10_000)), "names": {str(number): 1 for number in range(10_000)}})
    assert (len(found["many"]), len(found["names"])) == (hygiene.MOST_ITEMS, hygiene.MOST_ITEMS)


def test_an_exception_that_calls_itself_is_bounded_too() -> None:
    def fail(depth: int) -> None:
        if depth:
            fail(depth - 1)
        raise ValueError("alice@example.com")

    with pytest.raises(ValueError, match="alice") as caught:
        fail(200)
    found = clean_event(error_fields(caught.value))
    assert found["error"] == f"ValueError: {REDACTED}"
    assert len(found["stack"]) == hygiene.MOST_FRAMES


@pytest.mark.parametrize("secret", TABLE, ids=lambda one: f"{one.kind} {one.text[:24]}")
def test_one_path_among_many_is_found(secret: Secret) -> None:
    paths = [f"/orders/{uuid.UUID(int=number * 0x1357_9BDF_0246_8ACE_1357_9BDF)}" for number in range(40)]
    assert spotless(paths)
    assert not spotless([*paths, f"/a/{secret.text}", *paths])
    assert not spotless([*paths, "/" + "a/" * 600])
    assert not spotless(["/a\n"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=60), st.from_regex(r"/[a-z0-9/._-]{0,60}", fullmatch=True)), min_size=1))
def test_what_is_spotless_together_is_so_one_by_one(paths: list[str]) -> None:
    if spotless(paths):
        assert [clean_path(path) for path in paths] == paths


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "VERSION-CONTROL", "QUERY", "-"])
def test_methods_that_may_be_one(method: str) -> None:
    assert clean_method(method) == method


@pytest.mark.parametrize("method", ["get", "GET4111111111111111", "alice@example.com", "A" * 25, "", "G\nE", "A-", "Ä"])
def test_methods_that_are_none(method: str) -> None:
    assert clean_method(method) == "_OTHER"


def test_what_is_remembered_is_bounded() -> None:
    known = Cleaned(clean_path)
    for number in range(3 * hygiene.REMEMBERED):
        assert known[f"/orders/{number}"] == f"/orders/{number}"
        assert len(known) <= hygiene.REMEMBERED
    long = "/" + "a" * 5000
    assert len(known[long]) == hygiene.LONGEST_PATH + 1
    assert long not in known


@pytest.mark.parametrize(
    "unit",
    [
        "a@", "1-", "token ", "a.a.", "password", "/reset", "%2525", "x-", "name=\\\"'", "cookie:", '"', "eyJ-",
        "bearer ", "-----BEGIN PRIVATE KEY-----", "://a:", "?a=", "sk_", "secret =", "\\", "'", "(", "+1 ", "1a", "%4",
        "name:a,value:", "550e8400-e29b-41d4-a716-44665544000 ", "password='\\", "/reset/" + "a" * 15 + "~", '"\\',
    ],
)  # fmt: skip
def test_no_text_takes_more_than_linear_time(unit: str) -> None:
    """Four times the text may take four times as long; what is quadratic takes sixteen times."""

    def cost(length: int) -> float:
        text = (unit * (length // len(unit) + 1))[:length]
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            hygiene._cleaned(text)
            best = min(best, time.process_time() - began)
        return best

    small = max(cost(4_000), 1e-4)
    assert cost(16_000) < 9 * small
