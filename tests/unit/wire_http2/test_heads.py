"""Heads of streams: what is read from decoded fields, what goes on, what is refused (RFC 9113 section 8)."""

import hpack as oracle
import pytest

from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.grammar import MAX_FIELDS, MAX_TARGET, Malformed
from nova_sidecar.wire.http2.fields import UNDECLARED
from nova_sidecar.wire.http2.heads import RequestHead, RequestReader, ResponseHead, ResponseReader, Trailers
from nova_sidecar.wire.http2.hpack import Fields
from nova_sidecar.wire.http2.secret import Secret

CORRELATION = b"correlation-id"
START = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/pkg.Service/Do?x=1"), (b":authority", b"app:80")]
GRPC = [*START, (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"grpc-go/1.60")]
OWN = [
    (b"grpc-timeout", b"1S"),
    (CORRELATION, b"abc"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


def reader(**options: object) -> RequestReader:
    return RequestReader(capture=frozenset((CORRELATION, b"grpc-timeout", b"x-nova-attempt")), **options)  # type: ignore[arg-type]


def request(*fields: tuple[bytes, bytes], start: list[tuple[bytes, bytes]] = START) -> RequestHead:
    return reader().read((*start, *fields))


def response(*fields: tuple[bytes, bytes], status: bytes = b"200") -> ResponseHead:
    return ResponseReader(drop=frozenset((CORRELATION,))).read(((b":status", status), *fields))


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in oracle.Decoder().decode(block, raw=True)]


def refused(*fields: tuple[bytes, bytes], start: list[tuple[bytes, bytes]] = START) -> Reason:
    with pytest.raises(Malformed) as caught:
        request(*fields, start=start)
    return caught.value.reason


# --- what is read


def test_a_grpc_call() -> None:
    head = reader().read(tuple(GRPC + OWN))
    assert (head.verb, head.path, head.target, head.method) == (
        "POST", "/pkg.Service/Do", b"/pkg.Service/Do?x=1", b"POST",
    )  # fmt: skip
    assert head.is_grpc
    assert not any((head.is_head, head.idempotent, head.nested, head.expects, head.http10, head.upgrade))
    assert head.keep_alive
    assert head.length == UNDECLARED
    assert head.captured == {b"grpc-timeout": b"1S", CORRELATION: b"abc"}


def test_what_goes_on_is_all_but_the_captured() -> None:
    block = reader().read(tuple(GRPC + OWN)).forward
    expected = [*START[:2], START[3], START[2], *GRPC[4:], OWN[2]]
    assert decoded(block) == expected


@pytest.mark.parametrize(
    ("kind", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=x", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
    ],
)
def test_which_content_is_grpc(kind: bytes, is_grpc: bool) -> None:
    assert request((b"content-type", kind)).is_grpc is is_grpc
    assert response((b"content-type", kind)).is_grpc is is_grpc


def test_what_is_safe_to_repeat() -> None:
    assert request(start=[(b":method", b"GET"), *START[1:]]).idempotent
    key = (*START, (b"idempotency-key", b"k"))
    assert not reader().read(key).idempotent
    assert reader(keyed=True).read(key).idempotent
    assert decoded(reader(keyed=True).read(key).forward)[-1] == (b"idempotency-key", b"k")
    assert not reader(keyed=True).read((*START, (b"idempotency-key", b""))).idempotent
    assert reader(listed=lambda path: path == "/pkg.Service/Do").read(tuple(START)).idempotent


def test_a_repetition_says_so_and_goes_on_saying_so() -> None:
    head = request((b"x-nova-attempt", b"2"))
    assert head.nested
    assert decoded(head.forward)[-1] == (b"x-nova-attempt", b"2")
    first = request((b"x-nova-attempt", b"1"))
    assert not first.nested
    assert decoded(first.forward)[-1] == START[2]


def test_content_length_and_expectations() -> None:
    head = request((b"content-length", b"12"), (b"expect", b"100-continue"))
    assert head.length == 12
    assert head.expects


def test_captured_fields_of_one_name_make_a_list() -> None:
    assert request((CORRELATION, b"a"), (CORRELATION, b"b")).captured == {CORRELATION: b"a, b"}


def test_host_stands_in_for_the_authority_and_goes_on_as_it() -> None:  # section 8.3.1
    head = request((b"host", b"App:80"), start=START[:3])
    assert decoded(head.forward) == [*START[:2], (b":authority", b"App:80"), START[2]]
    both = request((b"host", b"APP:80"))
    assert (b"host", b"APP:80") not in decoded(both.forward)


def test_cookies_in_several_fields_go_on() -> None:  # section 8.2.3
    assert decoded(request((b"cookie", b"a=1"), (b"cookie", b"b=2")).forward)[-2:] == [
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]


def test_options_of_the_server_itself() -> None:
    start = [(b":method", b"OPTIONS"), START[1], (b":path", b"*"), START[3]]
    assert request(start=start).path == "*"


# --- the memos


def test_the_same_fields_give_the_same_head() -> None:
    read, fields = reader().read, tuple(GRPC)
    first = read(fields)
    again = [read(tuple(GRPC)) for _ in range(3)]
    assert again[1] is again[2]
    assert (first.forward, first.path) == (again[2].forward, again[2].path)
    assert read(fields) is read(fields)


def test_fields_of_its_own_do_not_mix_with_another_calls() -> None:
    read = reader().read
    for number in range(4):
        fields = (*GRPC, (CORRELATION, b"%d" % number), (b"traceparent", b"t%d" % number))
        for _ in range(3):
            head = read(fields)
            assert head.captured == {CORRELATION: b"%d" % number}
            assert decoded(head.forward)[-1] == (b"traceparent", b"t%d" % number)
    assert read(tuple(GRPC)).captured == {}
    assert len(read.__self__.memo) <= 1


def test_a_secret_is_not_remembered_as_if_it_were_none() -> None:
    read = reader().read
    for _ in range(3):
        public = read((*START, (b"x-key", b"k"), (b"traceparent", b"t")))
        secret = read((*START, (b"x-key", Secret(b"k")), (b"traceparent", Secret(b"t"))))
        indexable = [
            [field.indexable for field in oracle.Decoder().decode(head.forward, raw=True)][-2:]
            for head in (public, secret)
        ]
        assert indexable == [[True, True], [False, False]]


def test_what_is_captured_is_plain_whatever_it_came_as() -> None:
    captured = request((CORRELATION, Secret(b"abc"))).captured
    assert type(captured[CORRELATION]) is bytes


def test_memos_are_bounded() -> None:
    read = reader()
    kept: list[Fields] = []
    for number in range(5000):
        kept.append((*START[:2], (b":path", b"/%d" % number), START[3]))
        for _ in range(3):
            read.read(kept[-1])
    assert len(read.memo) < 1100
    assert len(read._known) <= 1024
    assert read.read(kept[0]).path == "/0"


# --- malformed requests (sections 8.1.1, 8.2, 8.3)


@pytest.mark.parametrize("missing", [":method", ":scheme", ":path", ":authority"])
def test_pseudo_header_fields_that_must_be_there(missing: str) -> None:
    assert refused(start=[field for field in START if field[0] != missing.encode()]) is Reason.BAD_REQUEST


@pytest.mark.parametrize("twice", START)
def test_pseudo_header_fields_come_once(twice: tuple[bytes, bytes]) -> None:
    refused(start=[*START, twice])


@pytest.mark.parametrize(
    "field",
    [(b":status", b"200"), (b":protocol", b"websocket"), (b":unknown", b"x"), (b":", b"x"), (b":Path", b"/")],
)
def test_pseudo_header_fields_that_requests_do_not_have(field: tuple[bytes, bytes]) -> None:
    refused(start=[*START, field])


@pytest.mark.parametrize("before", [(b"accept", b"*/*"), (CORRELATION, b"abc"), (b"traceparent", b"x"), (b"te", b"x")])
@pytest.mark.parametrize("at", range(4))
def test_pseudo_header_fields_come_first(before: tuple[bytes, bytes], at: int) -> None:
    read = reader().read
    for _ in range(2):
        read(tuple(START))  # remembered or not
        with pytest.raises(Malformed):
            read((*START[:at], before, *START[at:]))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (b":path", b"", Reason.BAD_REQUEST),
        (b":path", b"a", Reason.BAD_REQUEST),
        (b":path", b"http://app/a", Reason.BAD_REQUEST),
        (b":path", b"*", Reason.BAD_REQUEST),
        (b":path", b"/a b", Reason.BAD_REQUEST),
        (b":path", b"/a#b", Reason.BAD_REQUEST),
        (b":path", b"/\xff", Reason.BAD_REQUEST),
        (b":path", b"/a\r\nx: y", Reason.BAD_REQUEST),
        (b":path", b"/" + b"a" * MAX_TARGET, Reason.URI_TOO_LONG),
        (b":method", b"", Reason.BAD_REQUEST),
        (b":method", b"GET ", Reason.BAD_REQUEST),
        (b":method", b"G ET", Reason.BAD_REQUEST),
        (b":method", b"M" * 33, Reason.BAD_REQUEST),
        (b":method", b"CONNECT", Reason.UNSUPPORTED_METHOD),
        (b":method", Secret(b"CONNECT"), Reason.UNSUPPORTED_METHOD),
        (b":scheme", b"", Reason.BAD_REQUEST),
        (b":scheme", b"ftp", Reason.BAD_REQUEST),
        (b":authority", b"", Reason.BAD_REQUEST),
        (b":authority", b"user@app", Reason.BAD_REQUEST),
        (b":authority", b"a b", Reason.BAD_REQUEST),
        (b":authority", b"app/x", Reason.BAD_REQUEST),
    ],
)
def test_values_that_pseudo_header_fields_cannot_have(name: bytes, value: bytes, reason: Reason) -> None:
    assert refused(start=[(each, value if each == name else usual) for each, usual in START]) is reason


@pytest.mark.parametrize(
    "field",
    [
        (b"connection", b"keep-alive"),
        (b"connection", b"close"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"te", b"trailers, deflate"),
        (b"te", b""),
        (b"Accept", b"x"),
        (b"aCCept", b"x"),
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:b", b"x"),
        (b"a\r\nb", b"x"),
        (b"a\0", b"x"),
        (b"\xff", b"x"),
        (b"content_length", b"5"),
        (b"transfer_encoding", b"chunked"),
        (b"host", b"other"),
        (b"content-length", b""),
        (b"content-length", b"-1"),
        (b"content-length", b"+1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b"0x1"),
        (b"content-length", b"1" * 19),
    ],
)
def test_fields_that_requests_cannot_have(field: tuple[bytes, bytes]) -> None:
    assert refused(field) is Reason.BAD_REQUEST


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\0b", b"a\x1fb", b"a\x7fb", b" a", b"a ", b"\ta", b"a\t", b" "])
@pytest.mark.parametrize("name", [b"x", b"traceparent", CORRELATION, b"host"])
def test_values_that_no_field_can_have(name: bytes, value: bytes) -> None:  # section 8.2.1
    assert refused((name, value)) is Reason.BAD_REQUEST
    with pytest.raises(Malformed):
        response((name, value))


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"\xc3\xa4", b"\x80"])
def test_values_that_fields_can_have(value: bytes) -> None:
    assert decoded(request((b"x", value)).forward)[-1] == (b"x", value)


def test_framing_fields_come_once() -> None:
    refused((b"content-length", b"1"), (b"content-length", b"1"))
    refused((b"host", b"app:80"), (b"host", b"app:80"))


def test_too_many_fields() -> None:
    assert request(*[(b"x", b"1")] * (MAX_FIELDS - len(START)))
    assert refused(*[(b"x", b"1")] * (MAX_FIELDS - len(START) + 1)) is Reason.HEADER_TOO_LARGE
    with pytest.raises(Malformed):
        reader().trailers(((b"x", b"1"),) * (MAX_FIELDS + 1))


def test_nothing_at_all() -> None:
    refused(start=[])
    refused((CORRELATION, b"a"), start=[])


# --- responses


def test_a_response() -> None:
    head = response((b"content-length", b"5"), (CORRELATION, b"theirs"), (b"date", b"now"), (b"retry-after", b"3"))
    assert (head.status, head.length, head.retry_after, head.outcome) == (200, 5, 3.0, SUCCESS)
    assert (head.grpc_status, head.pushback_ms, head.reject, head.retried) == (None, None, None, False)
    assert decoded(head.forward) == [
        (b":status", b"200"), (b"content-length", b"5"), (b"retry-after", b"3"), (b"date", b"now"),
    ]  # fmt: skip


def test_a_grpc_response_of_trailers_only() -> None:
    head = response(
        (b"content-type", b"application/grpc"), (b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", b"250")
    )
    assert head.is_grpc
    assert (head.grpc_status, head.pushback_ms) == (14, 250)


def test_what_another_sidecar_says() -> None:
    head = response((b"x-nova-reject", b"overloaded"), (b"x-nova-retried", b"2"), status=b"503")
    assert (head.reject, head.outcome, head.retried) == (b"overloaded", CANCELLED, True)
    assert response(status=b"503").outcome is FAILURE


@pytest.mark.parametrize("status", [b"100", b"103", b"204", b"304"])
def test_responses_that_never_have_a_body(status: bytes) -> None:
    head = response((b"content-length", b"5") if status == b"304" else (b"x", b"y"), status=status)
    assert head.bodiless
    assert head.status == int(status)


@pytest.mark.parametrize(
    "status", [b"", b"20", b"2000", b"099", b"600", b"2x0", b"+20", b"\xb2\xb0\xb0", b"101", b" 20"]
)
def test_statuses_that_are_none(status: bytes) -> None:
    with pytest.raises(Malformed):
        response(status=status)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"x", b"y"),),
        ((b":status", b"200"), (b":status", b"200")),
        ((b":status", b"200"), (b":path", b"/")),
        ((b"x", b"y"), (b":status", b"200")),
        ((b"date", b"y"), (b":status", b"200")),
        ((CORRELATION, b"y"), (b":status", b"200")),
        ((b":status", b"200"), (b"connection", b"close")),
        ((b":status", b"200"), (b"te", b"gzip")),
        ((b":status", b"200"), (b"X", b"y")),
        ((b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")),
    ],
)
def test_malformed_responses(fields: Fields) -> None:
    read = ResponseReader(drop=frozenset((CORRELATION,))).read
    read(((b":status", b"200"),))
    read(((b":status", b"200"),))
    with pytest.raises(Malformed):
        read(fields)


def test_a_date_of_its_own_does_not_stay() -> None:
    read = ResponseReader(drop=frozenset()).read
    for second in range(3):
        for _ in range(3):
            head = read(((b":status", b"200"), (b"date", b"%d" % second), (b"server", b"x")))
            assert decoded(head.forward)[-1] == (b"date", b"%d" % second)
            assert head.status == 200


# --- trailers


def trailers(*fields: tuple[bytes, bytes]) -> Trailers:
    return ResponseReader(drop=frozenset()).trailers(fields)


def test_what_only_nova_says_neither_goes_on_nor_is_believed_when_a_caller_says_it() -> None:
    names = (b"x-tenant-id", b"x-nova-subject", b"x-request-id", CORRELATION)
    known = reader(show=frozenset((b"x-tenant-id", b"x-api-key")), guarded=frozenset(names))
    spoofed = [(name, b"root") for name in (*names, b"x_tenant_id", b"x-nova_subject")]
    for _ in range(3):  # as new, from the memo, and by identity
        head = known.read((*START, (b"x-api-key", b"k"), *spoofed))
        assert decoded(head.forward) == [START[0], START[1], START[3], START[2], (b"x-api-key", b"k")]
        assert head.captured == {b"x-api-key": b"k"}


def test_trailers_of_a_grpc_call() -> None:
    found = trailers((b"grpc-status", b"0"), (b"grpc-message", b""))
    assert (found.grpc_status, found.pushback_ms) == (0, None)
    assert decoded(found.forward) == [(b"grpc-status", b"0"), (b"grpc-message", b"")]


@pytest.mark.parametrize(("value", "status"), [(b"16", 16), (b"", None), (b"x", None), (b"-1", None), (b"1234", None)])
def test_the_grpc_status_is_a_number(value: bytes, status: int | None) -> None:
    assert trailers((b"grpc-status", value)).grpc_status == status


@pytest.mark.parametrize(("value", "ms"), [(b"0", 0), (b"1500", 1500), (b"-1", -1), (b"soon", -1), (b"9" * 10, -1)])
def test_pushback_that_is_no_number_means_not_at_all(value: bytes, ms: int) -> None:  # gRFC A6
    assert trailers((b"grpc-retry-pushback-ms", value)).pushback_ms == ms


def test_trailers_frame_and_route_nothing() -> None:  # RFC 9110 section 6.5.1
    block = reader().trailers(((b"content-length", b"5"), (b"host", b"x"), (b"x-sum", b"1")))
    assert decoded(block) == [(b"x-sum", b"1")]
    assert reader().trailers(((b"host", b"x"),)) == b""


@pytest.mark.parametrize(
    "field", [(b":path", b"/"), (b":status", b"200"), (b"connection", b"x"), (b"X", b"y"), (b"x", b"\n")]
)
def test_malformed_trailers(field: tuple[bytes, bytes]) -> None:  # section 8.1
    with pytest.raises(Malformed):
        trailers((b"grpc-status", b"0"), field)
    with pytest.raises(Malformed):
        reader().trailers((field,))


def test_the_same_trailers_are_remembered() -> None:
    read = ResponseReader(drop=frozenset()).trailers
    fields = ((b"grpc-status", b"0"),)
    for _ in range(2):
        read(fields)
    assert read(fields) is read(((b"grpc-status", b"0"),))
