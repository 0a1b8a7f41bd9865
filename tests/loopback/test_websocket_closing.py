"""WebSockets that Nova has to close: between messages, told to both ends, nothing of the client lost."""

import time
from typing import Any

import pytest

from nova_api.policies import AccessLogPolicy, BackpressurePolicy, PoolPolicy, TimeoutPolicy, WebSocketPolicy
from nova_api.proxy import DrainPolicy
from nova_api.units import Duration, Share

from .conftest import StartSidecar
from .support.message import request, response
from .support.peer import Listener
from .support.sidecar import Sidecar, document, inbound, outbound, with_fields
from .support.waiting import eventually, holds
from .support.websocket import BINARY, CLOSE, PING, SWITCHED, TEXT, UPGRADE, Chat, closing, frame, read_frame

AT_ONCE = DrainPolicy(delay=Duration(0), timeout=Duration(8))


def policy(**fields: Any) -> WebSocketPolicy:
    return WebSocketPolicy(**{"spread": Duration(0), "jitter": Share(0)} | fields)


@pytest.fixture
def sidecar(start: StartSidecar, listener: Listener) -> Sidecar:
    """Leaves without delay and closes everything at once."""
    return start(document(inbound(listener.address, protocol="websocket"), drain=AT_ONCE, web_socket=policy()))


@pytest.fixture
def chat(sidecar: Sidecar, listener: Listener) -> Chat:
    return Chat.open(sidecar, listener)


def leave_in_order(chat: Chat, code: int) -> None:
    """The client is told, answers, and only then the app is; both connections end."""
    told = read_frame(chat.client)
    assert (told.code, told.masked) == (code, False)
    chat.client.send(closing(code, masked=True))
    passed_on = read_frame(chat.app)
    assert (passed_on.code, passed_on.masked) == (1001, True)
    chat.app.send(closing(1001, masked=False))
    chat.app.close()
    assert chat.client.expect_closed() == b""


def drain(sidecar: Sidecar) -> None:
    assert sidecar.control("POST", "/drain")[0] == 202


def closed(sidecar: Sidecar, reason: str) -> float:
    return sidecar.metric("nova_websocket_closed_total", direction="inbound", reason=reason)


# the pod leaves


def test_both_ends_are_told_and_the_sidecar_leaves(chat: Chat) -> None:
    chat.say(b"hello")
    chat.sidecar.terminate()
    leave_in_order(chat, 1012)
    assert chat.sidecar.wait() == 0


def test_the_code_can_be_chosen(start: StartSidecar, listener: Listener) -> None:
    web_socket = policy(close_code=1001)
    chat = Chat.open(
        start(document(inbound(listener.address, protocol="websocket"), drain=AT_ONCE, web_socket=web_socket)), listener
    )
    drain(chat.sidecar)
    leave_in_order(chat, 1001)


def test_a_message_of_the_app_is_never_cut(chat: Chat) -> None:
    """Its frames come in pieces, with a ping between, and the next message's beginning comes along with its end."""
    whole = (
        frame(TEXT, b"first ", masked=False, final=False)
        + frame(PING, b"?", masked=False)
        + frame(0, b"and last", masked=False)
    )
    following = frame(BINARY, b"too late", masked=False)
    chat.app.send(whole[:4])
    assert chat.client.read_exactly(4) == whole[:4]
    drain(chat.sidecar)
    eventually(lambda: chat.sidecar.status("/readyz")[0] == 503)
    for byte in whole[4:-1]:
        chat.app.send(bytes((byte,)))
        assert chat.client.read_exactly(1) == bytes((byte,))
    holds(lambda: chat.client.poll() == b"", for_seconds=0.3)

    chat.app.send(whole[-1:] + following)

    assert chat.client.read_exactly(1) == whole[-1:]
    leave_in_order(chat, 1012)


def test_what_the_client_sends_before_it_answers_reaches_the_app(chat: Chat) -> None:
    drain(chat.sidecar)
    assert read_frame(chat.client).code == 1012
    messages = frame(TEXT, b"half ", masked=True, final=False) + frame(0, b"said", masked=True)
    more = frame(BINARY, b"x" * 70_000, masked=True)
    chat.client.send(messages)
    assert chat.app.read_exactly(len(messages)) == messages
    chat.app.send(frame(TEXT, b"nobody reads this", masked=False))
    chat.client.send(more + closing(1012, masked=True)[:1])
    assert chat.app.read_exactly(len(more)) == more
    assert read_frame(chat.app) == (CLOSE, (1001).to_bytes(2), True)
    assert chat.client.poll() == b""


def test_closes_that_cross(chat: Chat) -> None:
    """Both ends close at the same time: each gets one close frame."""
    drain(chat.sidecar)
    chat.client.send(closing(1000, masked=True))
    arrived = read_frame(chat.app)
    chat.app.send(closing(arrived.code, masked=False))
    told = read_frame(chat.client)
    assert (told.code, arrived.code) in {(1012, 1001), (1012, 1000), (1000, 1000)}
    chat.app.close()
    chat.client.expect_closed()


def test_a_client_that_has_closed_already_is_not_interrupted(chat: Chat) -> None:
    chat.client.send(closing(1000, masked=True))
    assert read_frame(chat.app).code == 1000
    chat.app.send(closing(1000, masked=False)[:1])  # the answer is under way
    assert chat.client.read_exactly(1) == b"\x88"
    drain(chat.sidecar)
    holds(lambda: chat.client.poll() == b"", for_seconds=0.3)
    chat.app.send(closing(1000, masked=False)[1:])
    assert chat.client.read_exactly(3) == closing(1000, masked=False)[1:]
    chat.app.close()
    chat.client.expect_closed()
    eventually(lambda: closed(chat.sidecar, "client") == 1)


def test_a_client_that_does_not_answer_is_not_waited_for(chat: Chat) -> None:
    drain(chat.sidecar)
    assert read_frame(chat.client).code == 1012
    assert read_frame(chat.app).code == 1001  # after a while
    chat.app.expect_closed()
    assert chat.client.expect_closed() == b""


def test_a_client_that_hangs_up_instead_of_answering(chat: Chat) -> None:
    drain(chat.sidecar)
    assert read_frame(chat.client).code == 1012
    chat.client.send(frame(TEXT, b"bye", masked=True))
    chat.client.finish()
    assert read_frame(chat.app) == (TEXT, b"bye", True)
    assert read_frame(chat.app).code == 1001
    chat.app.close()
    chat.client.expect_closed()


@pytest.mark.parametrize("broken", [b"\x83\x01x", b"\x80\x01x", b"\x81\x81maskx", b"\x09\x00"])
def test_a_stream_that_cannot_be_followed_goes_on_and_gets_no_close_frame(chat: Chat, broken: bytes) -> None:
    chat.app.send(broken)
    assert chat.client.read_exactly(len(broken)) == broken
    chat.hear(b"whatever it is")
    drain(chat.sidecar)
    assert chat.client.expect_closed() == b""
    chat.app.expect_closed()


def test_the_time_is_over_in_the_middle_of_a_message(start: StartSidecar, listener: Listener) -> None:
    """In the middle of a frame nothing can be put in; between fragments the close frame still can."""
    short = DrainPolicy(delay=Duration(0), timeout=Duration(1))
    sidecar = start(document(inbound(listener.address, protocol="websocket"), drain=short, web_socket=policy()))
    inside, between = Chat.open(sidecar, listener), Chat.open(sidecar, listener)
    cut, fragment = frame(TEXT, b"endless", masked=False)[:5], frame(TEXT, b"part", masked=False, final=False)
    inside.app.send(cut)
    between.app.send(fragment)
    assert inside.client.read_exactly(5) == cut
    assert between.client.read_exactly(len(fragment)) == fragment
    began = time.monotonic()
    sidecar.terminate()
    assert inside.client.expect_closed() == b""
    assert read_frame(between.client).code == 1012
    between.client.expect_closed()
    assert sidecar.wait() == 0
    assert time.monotonic() - began >= 1
    assert [line["reason"] for line in sidecar.log if line["event"] == "exchange"] == ["cut", "cut"]


def test_new_upgrades_are_sent_elsewhere_and_plain_requests_served(start: StartSidecar, listener: Listener) -> None:
    later = DrainPolicy(delay=Duration(5), timeout=Duration(5))
    sidecar = start(document(inbound(listener.address, protocol="websocket"), drain=later, web_socket=policy()))
    chat = Chat.open(sidecar, listener)
    drain(sidecar)
    with sidecar.connect() as client:
        refusal = client.exchange(UPGRADE)
        assert (refusal.status, refusal.get("retry-after"), refusal.get("x-nova-reject")) == (503, "1", "draining")
        client.expect_closed()
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"plain"))
        assert client.response().body == b"plain"
    chat.say(b"open ones go on while callers learn of it")
    assert not chat.client.is_closed()


def test_an_upgrade_under_way_when_the_pod_leaves(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, protocol="websocket"), drain=AT_ONCE, web_socket=policy()))
    client = sidecar.connect()
    client.send(UPGRADE)
    app = listener.accept()
    app.head()
    drain(sidecar)
    eventually(lambda: sidecar.status("/readyz")[0] == 503)
    app.send(SWITCHED)
    assert client.response(interim=True).status == 101
    leave_in_order(Chat(sidecar, client, app), 1012)


def test_closes_are_spread(start: StartSidecar, listener: Listener) -> None:
    drains = DrainPolicy(delay=Duration(0), timeout=Duration(8))
    web_socket = policy(spread=Duration(2))
    sidecar = start(document(inbound(listener.address, protocol="websocket"), drain=drains, web_socket=web_socket))
    chats = [Chat.open(sidecar, listener) for _ in range(20)]
    began = time.monotonic()
    sidecar.terminate()
    told: list[float] = []
    left = list(chats)
    while left:
        for chat in [chat for chat in left if chat.client.poll()]:
            told.append(time.monotonic() - began)
            leave_in_order(chat, 1012)
            left.remove(chat)
        assert time.monotonic() - began < 6
    assert sidecar.wait() == 0
    assert told[-1] > 1.5
    assert 6 <= sum(instant < 1 for instant in told) <= 12


def test_the_apps_own_conversations_go_on_while_the_pod_leaves(start: StartSidecar, listener: Listener) -> None:
    """The app may need them for what it still has to finish."""
    sidecar = start(
        document(
            inbound(listener.address, protocol="websocket"), outbound(listener.address), drain=AT_ONCE,
            web_socket=policy(),
        )
    )  # fmt: skip
    coming = Chat.open(sidecar, listener, name="web")
    going = Chat.open(sidecar, listener, name="db")
    drain(sidecar)
    assert read_frame(coming.client).code == 1012
    going.say(b"still")
    going.hear(b"here")
    with sidecar.connect("db") as client:
        client.send(UPGRADE)
        listener.accept().head()


def test_a_close_in_good_order_is_no_error_in_the_log(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            inbound(listener.address, protocol="websocket"), drain=AT_ONCE, web_socket=policy(),
            access_log=AccessLogPolicy(mode="Errors"),
        )
    )  # fmt: skip
    chat = Chat.open(sidecar, listener)
    with sidecar.connect() as client:
        assert client.exchange(UPGRADE.replace(b"HTTP/1.1", b"HTTP/9")).status == 400
    sidecar.terminate()
    leave_in_order(chat, 1012)
    assert sidecar.wait() == 0
    assert [line["status"] for line in sidecar.log if line["event"] == "exchange"] == [400]


# limits


def test_idle_ones_are_closed_and_a_ping_is_a_sign_of_life(start: StartSidecar, listener: Listener) -> None:
    web_socket = policy(idle_timeout=Duration(0.6))
    sidecar = start(document(inbound(listener.address, protocol="websocket"), web_socket=web_socket))
    idle, lively = Chat.open(sidecar, listener), Chat.open(sidecar, listener)
    ping = frame(PING, b"", masked=True)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        lively.client.send(ping)
        assert lively.app.read_exactly(len(ping)) == ping
        time.sleep(0.05)
    assert not lively.client.is_closed()
    leave_in_order(idle, 1001)
    eventually(lambda: closed(sidecar, "idle") == 1)
    assert closed(sidecar, "age") == 0


def test_old_ones_are_closed_between_messages(start: StartSidecar, listener: Listener) -> None:
    web_socket = policy(max_age=Duration(0.5))
    sidecar = start(document(inbound(listener.address, protocol="websocket"), web_socket=web_socket))
    chat = Chat.open(sidecar, listener)
    first, last = frame(TEXT, b"a", masked=False, final=False), frame(0, b"b", masked=False)
    chat.app.send(first)
    assert chat.client.read_exactly(len(first)) == first
    holds(lambda: chat.client.poll() == b"", for_seconds=1)
    chat.app.send(last)
    assert chat.client.read_exactly(len(last)) == last
    leave_in_order(chat, 1001)
    eventually(lambda: closed(sidecar, "age") == 1)
    eventually(lambda: [line["reason"] for line in sidecar.log if line["event"] == "exchange"] == ["age"])


def test_the_number_is_bounded(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(inbound(listener.address, protocol="websocket"), web_socket=policy(max_connections=2), drain=AT_ONCE)
    )
    chats = [Chat.open(sidecar, listener) for _ in range(2)]
    with sidecar.connect() as client:
        refusal = client.exchange(UPGRADE)
        assert (refusal.status, refusal.get("x-nova-reject")) == (503, "connection_limit")
    chats[0].client.close()
    chats[0].app.close()
    eventually(lambda: sidecar.metric("nova_websocket_connections") == 1)
    Chat.open(sidecar, listener).say(b"room again")


def test_upgrades_that_are_answered_too_late_for_the_limit(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, protocol="websocket"), web_socket=policy(max_connections=1)))
    clients = [sidecar.connect() for _ in range(2)]
    apps = []
    for client in clients:
        client.send(UPGRADE)
        apps.append(listener.accept())
        apps[-1].head()
    for app in apps:
        app.send(SWITCHED)
    statuses = sorted((client.response(interim=True).status for client in clients), reverse=True)
    assert statuses == [503, 101]


def test_it_takes_no_place_of_requests(start: StartSidecar, listener: Listener) -> None:
    """Neither in the pool nor in the limiter: more conversations than either has places do not stop a request."""
    sidecar = start(
        document(
            inbound(listener.address, protocol="websocket", pool=PoolPolicy(size=2)),
            backpressure=BackpressurePolicy(max_concurrency=3, threshold=1.0, max_queue=0),
            web_socket=policy(),
        )
    )
    for _ in range(5):
        Chat.open(sidecar, listener)
    assert sidecar.metric("nova_limiter_in_flight") == 0
    assert sidecar.metric("nova_pool_connections", direction="inbound") == 0
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"room"))
        assert client.response().body == b"room"


def test_a_port_that_a_reload_removes_closes_its_conversations(start: StartSidecar, listener: Listener) -> None:
    kept, gone = (inbound(listener.address, name, protocol="websocket") for name in ("kept", "gone"))
    sidecar = start(document(kept, gone, web_socket=policy()))
    staying, leaving = Chat.open(sidecar, listener, name="kept"), Chat.open(sidecar, listener, name="gone")
    sidecar.reload(with_fields(sidecar.config, inbound=(kept,)))
    leave_in_order(leaving, 1012)
    staying.say(b"hello")


# what is counted


def test_what_is_counted(sidecar: Sidecar, listener: Listener) -> None:
    def count(name: str) -> float:
        return sidecar.metric(f"nova_websocket_{name}", direction="inbound")

    assert (count("opened_total"), count("connections"), count("duration_seconds_count")) == (0, 0, 0)
    named = UPGRADE[:-2] + b"X-Session-Id: alice\r\n\r\n"
    first = Chat.open(sidecar, listener, named)
    assert (count("opened_total"), count("connections"), count("reconnects_total")) == (1, 1, 0)
    first.client.send(closing(1000, masked=True))
    assert read_frame(first.app).code == 1000
    first.app.close()
    first.client.expect_closed()
    first.client.close()
    eventually(lambda: count("connections") == 0)
    assert closed(sidecar, "client") == 1
    assert count("duration_seconds_count") == 1
    for upgrade in (named, UPGRADE, UPGRADE.replace(b"/chat", b"/other")):
        Chat.open(sidecar, listener, upgrade)
    assert count("reconnects_total") == 1
    assert b"alice" not in sidecar.status("/metrics")[1]
    assert "alice" not in sidecar.text


@pytest.mark.parametrize(
    ("end", "reason"), [("client", "client_lost"), ("app", "upstream_lost"), ("goodbye", "upstream")]
)
def test_who_ended_it(chat: Chat, end: str, reason: str) -> None:
    if end == "goodbye":
        chat.app.send(closing(1000, masked=False))
        assert read_frame(chat.client).code == 1000
    (chat.client if end == "client" else chat.app).close()
    other = chat.app if end == "client" else chat.client
    other.expect_closed()
    other.close()
    eventually(lambda: closed(chat.sidecar, reason) == 1)


def test_other_upgrades_pass_and_are_no_websockets(start: StartSidecar, listener: Listener) -> None:
    upstream = outbound(listener.address, timeout=TimeoutPolicy(stream_idle=Duration(5)))
    sidecar = start(document(upstream, web_socket=policy()))
    upgrade = request("GET", "/", "Connection: Upgrade", "Upgrade: irc/1.0")
    with sidecar.connect() as client:
        client.send(upgrade)
        app = listener.accept()
        app.head()
        app.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: irc/1.0\r\n\r\n")
        assert client.response(interim=True).status == 101
        client.send(b"NICK alice\r\n")
        assert app.read_exactly(12) == b"NICK alice\r\n"
        assert sidecar.metric("nova_websocket_opened_total") == 0
        app.close()
        client.expect_closed()


def test_an_app_that_reads_slowly_still_gets_everything(start: StartSidecar) -> None:
    slow = Listener(receive_buffer=4096)
    try:
        sidecar = start(document(inbound(slow.address, protocol="websocket"), web_socket=policy()))
        chat = Chat.open(sidecar, slow)
        data = frame(BINARY, b"x" * 300_000, masked=True)
        chat.client.send(data + closing(1000, masked=True))
        chat.client.close()
        assert chat.app.read_exactly(len(data)) == data
        assert read_frame(chat.app).code == 1000
        chat.app.expect_closed()
    finally:
        slow.close_all()
