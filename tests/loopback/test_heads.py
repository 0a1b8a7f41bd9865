"""Start lines and fields: what is passed on untouched, what is taken out and what is refused."""

import pytest

from .support.message import request, response
from .support.wire import Wire


def test_order_case_and_duplicates_are_kept(wire: Wire) -> None:
    lines = ["X-First: 1", "accept: text/html", "X-DUP: a", "Cookie: a=1; b=2", "x-dup: b", "X-Empty:", "X-Dup: c"]
    client, app, arrived = wire.arrived(request("GET", "/", *lines))

    expected = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
    ours = {name for name, _ in expected}
    assert [line for line in arrived.lines if line[0] in ours] == expected
    app.send(response("200 OK", "Set-Cookie: a=1", "X-B: 1", "set-cookie: b=2", "X-A: 2", body=b"x"))

    answer = client.response()

    assert [line for line in answer.lines if line[0].lower() in {"set-cookie", "x-a", "x-b"}] == [
        ("Set-Cookie", "a=1"),
        ("X-B", "1"),
        ("set-cookie", "b=2"),
        ("X-A", "2"),
    ]


def test_values_may_hold_any_visible_byte(wire: Wire) -> None:
    value = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA0, 0x100)])) + "\tx y"
    client, app, arrived = wire.arrived(request("GET", "/", f"X-All: {value}"))

    assert arrived.get("x-all") == value
    app.send(response("200 OK", f"X-All: {value}"))
    assert client.response().get("x-all") == value


def test_hop_by_hop_fields_end_here(wire: Wire) -> None:
    """RFC 9110 section 7.6.1: Connection, what it names, and the fields known to be per hop."""
    client, app, arrived = wire.arrived(
        request(
            "GET",
            "/",
            "Connection: keep-alive, X-Private",
            "X-Private: secret",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers, deflate",
            "X-Kept: 1",
        )
    )
    for name in ("x-private", "keep-alive", "proxy-connection"):
        assert arrived.all(name) == [], name
    assert not arrived.has("connection", "x-private")
    assert not arrived.has("te", "deflate")
    assert arrived.get("x-kept") == "1"
    app.send(
        response(
            "200 OK", "Connection: X-Mine", "X-Mine: 1", "Keep-Alive: timeout=9", "Proxy-Connection: close", "X-Kept: 2"
        )
    )

    answer = client.response()

    for name in ("x-mine", "keep-alive", "proxy-connection"):
        assert answer.all(name) == [], name
    assert answer.get("x-kept") == "2"


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Transfer-Encoding"])
def test_connection_cannot_name_what_the_message_rests_on(wire: Wire, name: str) -> None:
    """Who strips what Connection names would send the app another message than the one that came."""
    assert wire.refused(request("POST", "/", f"Connection: close, {name}", body=b"body")).status == 400


def test_connection_cannot_take_the_correlation_id_away(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("GET", "/", "Connection: X-Correlation-Id", "X-Correlation-Id: abc"))

    assert arrived.get("x-correlation-id")
    app.send(response())
    assert client.response().get("x-correlation-id") == arrived.get("x-correlation-id")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a/b?x=1&y=2",
        "/%20%00?q=%0d%0a",
        "/..//./a",
        "//double",
        "/" + "x" * 4000,
        "/?a[]=1|2^3`{}",
        "/;a=1,b",
    ],
    ids=lambda target: target[:16],
)
def test_targets_are_passed_on_byte_for_byte(wire: Wire, target: str) -> None:
    client, app, arrived = wire.arrived(request("GET", target))

    assert arrived.target == target
    app.send(response())
    assert client.response().status == 200


def test_absolute_form(wire: Wire) -> None:
    """A server must accept it; the authority in it replaces Host (RFC 9112 section 3.2.2)."""
    client, app, arrived = wire.arrived(request("GET", "http://shop.example:8080/cart?x=1", host="other.example"))

    assert arrived.target in {"/cart?x=1", "http://shop.example:8080/cart?x=1"}
    assert arrived.get("host") == "shop.example:8080"
    app.send(response())
    assert client.response().status == 200


def test_asterisk_form(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("OPTIONS", "*"))

    assert arrived.start == "OPTIONS * HTTP/1.1"
    app.send(response())
    assert client.response("OPTIONS").status == 200


def test_connect_is_refused(wire: Wire) -> None:
    assert wire.refused(request("CONNECT", "db:5432", host="db:5432"), to="GET").status in {400, 405, 501}


@pytest.mark.parametrize(
    ("start", "fields"),
    [
        ("GET / HTTP/1.1", []),
        ("GET / HTTP/1.1", ["Host: a", "Host: b"]),
        ("GET / HTTP/1.1", ["Host: a", "Host: a"]),
        ("GET / HTTP/1.1", ["Host: a, b"]),
        ("GET / HTTP/1.1", ["Host: a b"]),
        ("GET / HTTP/1.1", ["Host: a/b"]),
        ("GET / HTTP/1.1", ["Host: user@a"]),
    ],
    ids=["missing", "two", "same twice", "list", "space", "path", "userinfo"],
)
def test_bad_host_is_refused(wire: Wire, start: str, fields: list[str]) -> None:
    """RFC 9112 section 3.2: a server must answer 400 where Host is missing, there twice or not a host."""
    assert wire.refused("\r\n".join([start, *fields, "", ""]).encode()).status == 400


@pytest.mark.parametrize("host", ["", "[::1]:80", "a.b-c.d:8080", "x_y"], ids=lambda host: host or "empty")
def test_good_host_is_passed_on(wire: Wire, host: str) -> None:
    _, app, arrived = wire.arrived(request("GET", "/", host=host))

    assert arrived.get("host") == host
    app.send(response())


def test_http10_needs_no_host(wire: Wire) -> None:
    client, app, _ = wire.arrived(b"GET / HTTP/1.0\r\n\r\n")
    app.send(response(body=b"old"))
    assert client.response().body == b"old"


def test_a_head_that_is_too_large(wire: Wire) -> None:
    refusal = wire.refused(request("GET", "/", *(f"X-{number}: {'v' * 1000}" for number in range(300))))

    assert refusal.status == 431


def test_one_field_that_is_too_large(wire: Wire) -> None:
    assert wire.refused(request("GET", "/", f"Cookie: {'c' * 300_000}")).status == 431


def test_too_many_fields(wire: Wire) -> None:
    assert wire.refused(request("GET", "/", *(f"X-{number}: v" for number in range(5000)))).status == 431


def test_a_target_that_is_too_long(wire: Wire) -> None:
    assert wire.refused(request("GET", "/" + "x" * 300_000)).status == 414


def test_an_endless_head_is_cut_off(wire: Wire) -> None:
    """Refused when the limit is reached, without waiting for an end that never comes."""
    client = wire.client()
    client.send_if_open(b"GET / HTTP/1.1\r\nHost: a\r\nX-Endless: " + b"e" * 400_000)

    assert client.response().status == 431
    client.expect_closed()
    assert wire.untouched()


def test_a_usual_large_head_passes(wire: Wire) -> None:
    """8 KB of cookies is what browsers send and servers take."""
    cookies = "c" * 7000
    client, app, arrived = wire.arrived(request("GET", "/", f"Cookie: {cookies}"))

    assert arrived.get("cookie") == cookies
    app.send(response("200 OK", f"X-Big: {'b' * 7000}", body=b"ok"))
    answer = client.response()
    assert (len(answer.get("x-big") or ""), answer.body) == (7000, b"ok")


def test_a_hundred_fields_pass(wire: Wire) -> None:
    lines = [f"X-Field-{number}: {number}" for number in range(90)]
    client, app, arrived = wire.arrived(request("GET", "/", *lines))

    assert [line for line in arrived.lines if line[0].startswith("X-Field")] == [
        (f"X-Field-{number}", str(number)) for number in range(90)
    ]
    app.send(response())
    assert client.response().status == 200


@pytest.mark.parametrize(
    "version", ["HTTP/2.0", "HTTP/1.10", "HTTP/0.9", "HTTP/1", "HTTP/11", "http/1.1", "ICY/1.1", ""]
)
def test_other_versions_are_refused(wire: Wire, version: str) -> None:
    refusal = wire.refused(f"GET / {version}\r\nHost: a\r\n\r\n".encode())

    assert refusal.status in {400, 505}


@pytest.mark.parametrize(
    "garbage",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)) + b"\r\n\r\n",
        b"\x00" * 100,
        b"hello\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        bytes(range(128, 256)),
        b"GET /\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["h2 preface", "tls hello", "nul", "hello", "redis", "ssh", "high bytes", "http/0.9", "leading space"],
)
def test_other_protocols_are_refused(wire: Wire, garbage: bytes) -> None:
    refusal = wire.refused(garbage)

    assert refusal.status in {400, 505}
    assert refusal.has("connection", "close")


def test_refusals_name_their_reason(wire: Wire) -> None:
    refusal = wire.refused(request("GET", "/", host=None))

    assert refusal.get("x-nova-reject") == "bad_request"
    assert refusal.has("connection", "close")


def test_refusals_do_not_repeat_what_the_client_sent(wire: Wire) -> None:
    """Echoed bytes would make an error page a place for scripts."""
    client = wire.client()
    client.send(b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: a\r\nX-<b>: 1\r\n\r\n")

    client.response()

    assert b"script" not in client.received
    assert b"<b>" not in client.received


WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x")
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")


@pytest.mark.parametrize(
    ("side", "lines"),
    [
        ("web", WEBSOCKET),  # a port of protocol http; outbound passes WebSocket upgrades on
        *((side, H2C) for side in ("web", "db")),
        *((side, ("Upgrade: h2c",)) for side in ("web", "db")),
        *((side, ("Connection: Upgrade", "Upgrade: tls/1.0, h2c")) for side in ("web", "db")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1].split(":")[0],
)
def test_upgrades_that_a_port_does_not_serve_are_not_asked_for(wire: Wire, side: str, lines: tuple[str, ...]) -> None:
    """A tunnel to the app that nobody meant to open would take requests past every check (h2c smuggling)."""
    client, app, arrived = wire.arrived(request("GET", "/", *lines), side)

    assert arrived.get("upgrade") is None
    assert not arrived.has("connection", "upgrade")
    app.send(response(body=b"plain"))
    assert client.response().body == b"plain"


def test_the_client_address_is_added_to_the_chain(wire: Wire) -> None:
    """Inbound appends to X-Forwarded-For and never replaces it; the app can tell what it may trust."""
    _, app, arrived = wire.arrived(request("GET", "/", "X-Forwarded-For: 192.0.2.7"))
    assert arrived.get("x-forwarded-for") == "192.0.2.7, 127.0.0.1"
    app.send(response())
