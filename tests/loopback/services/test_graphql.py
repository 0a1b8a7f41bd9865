"""graphql as it runs in a pod, by itself: what it reads, what it refuses, and what it says of services that are away.
What it makes of services that are there is in test_backend_graphql.py."""

import time
import uuid
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from graphql import build_schema

from tests.loopback.support.peer import Listener

from .process import Answer, Service, running

NOBODY = "127.0.0.1:1"
VIEWER = {"x_nova_subject": str(uuid.uuid4())}


def addresses(**given: str) -> list[str]:
    """Flags for where services are; those that are not given are nowhere."""
    flags = {f"--{name}-address": NOBODY for name in ("users", "content", "messaging", "notification")}
    flags |= {f"--{name}-url": f"http://{NOBODY}" for name in ("content", "search", "recommendations")}
    flags |= {f"--{name.replace('_', '-')}": where for name, where in given.items()}
    return [word for pair in flags.items() for word in pair]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Service]:
    with running("graphql", "--metrics-port", "0", *addresses()) as service:
        yield service


def ask(gateway: Service, query: str = "", **fields: Any) -> Answer:
    """Ask as nobody in particular."""
    return gateway.call("/graphql", "POST", {"query": query, **fields}, content_type="application/json")


def codes(answer: Answer) -> list[tuple[str, str]]:
    """Field and code of each error."""
    return [(error.get("path", [""])[0], error["extensions"]["code"]) for error in answer.body["errors"]]


def test_the_schema_that_is_published_is_one_and_is_its_own(gateway: Service) -> None:
    answer = gateway.call("/schema.graphql")
    assert answer.status == 200
    schema = build_schema(answer.body)
    assert schema.query_type is not None
    asked = ask(gateway, "{ __schema { queryType { fields { name } } } }").body
    named = {field["name"] for field in asked["data"]["__schema"]["queryType"]["fields"]}
    assert named == set(schema.query_type.fields)


def test_a_field_whose_service_is_away_says_so_and_the_others_are_there(gateway: Service) -> None:
    answer = ask(gateway, '{ __typename searchPosts(words: "tea") { next } }')
    assert answer.status == 200
    assert answer.body["data"] == {"__typename": "Query", "searchPosts": None}
    assert codes(answer) == [("searchPosts", "UNAVAILABLE")]
    assert answer.body["errors"][0]["message"] == "search is not available"


def test_each_service_is_named_that_is_away(gateway: Service) -> None:
    query = (
        "{ me { id } feed { next } recommendations { id } notifications { unread }"
        f' messages(conversation: "{uuid.uuid4()}") {{ text }} }}'
    )
    answer = gateway.call("/graphql", "POST", {"query": query}, content_type="application/json", **VIEWER)
    assert {error["message"] for error in answer.body["errors"]} == {
        f"{name} is not available" for name in ("users", "content", "recommendations", "notification", "messaging")
    }


def test_who_is_nobody_is_asked_for_a_token_where_it_matters(gateway: Service) -> None:
    query = "{ me { id } feed { next } notifications { unread } recommendations { id } }"
    assert set(codes(ask(gateway, query))) == {
        (field, "UNAUTHENTICATED") for field in ("me", "feed", "notifications", "recommendations")
    }
    for mutation in ('createPost(text: "tea") { id }', f'follow(person: "{uuid.uuid4()}") {{ id }}'):
        ((_, code),) = codes(ask(gateway, f"mutation {{ {mutation} }}"))
        assert code == "UNAUTHENTICATED"


def test_who_is_no_user_is_refused(gateway: Service) -> None:
    answer = gateway.call(
        "/graphql", "POST", {"query": "{ __typename }"}, content_type="application/json", x_nova_subject="somebody"
    )
    assert answer.status == 401


@pytest.mark.parametrize("first", [0, 101, -1])
def test_a_page_has_a_size(gateway: Service, first: int) -> None:
    answer = ask(gateway, f'{{ searchPosts(words: "tea", first: {first}) {{ next }} }}')
    assert codes(answer) == [("searchPosts", "BAD_USER_INPUT")]
    assert answer.body["errors"][0]["message"] == "first: expected 1 to 100"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("{ me { ", {}),
        ("{ nothing }", {}),
        ("query A { __typename }", {"operationName": "B"}),
        ("subscription { me { id } }", {}),
        ("query A($id: UUID!) { person(id: $id) { id } }", {"variables": {"id": "x"}}),
        ("query A($id: UUID!) { person(id: $id) { id } }", {}),
        ("{ __typename }" * 5000, {}),
        ("{a" * 1900, {}),
    ],
)
def test_a_document_that_cannot_be_run_has_no_data_and_a_reason(
    gateway: Service, query: str, fields: dict[str, Any]
) -> None:
    answer = ask(gateway, query, **fields)
    assert answer.status == 200
    assert "data" not in answer.body
    assert {code for _, code in codes(answer)} == {"BAD_USER_INPUT"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "query: expected a document"),
        ({"query": 1}, "$.query"),
        ({"query": "{ __typename }", "variables": []}, "$.variables"),
        ({"extensions": {"persistedQuery": {"sha256Hash": "x"}}}, "$.extensions.persistedQuery.sha256Hash"),
        ({"extensions": {"persistedQuery": {"sha256Hash": "0" * 64, "version": 2}}}, "version"),
        ({"query": "{ me { id } }", "extensions": {"persistedQuery": {"sha256Hash": "0" * 64}}}, "sha256Hash"),
        ([{"query": "{ __typename }"}], "object"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_with_field_and_rule(gateway: Service, body: Any, says: str) -> None:
    answer = gateway.call("/graphql", "POST", body, content_type="application/json")
    assert answer.status == 400
    assert says in answer.body["error"]


def test_a_form_of_another_site_is_no_request(gateway: Service) -> None:
    answer = gateway.call("/graphql", "POST", {"query": "{ __typename }"}, content_type="text/plain")
    assert answer.status == 415


def test_a_document_is_known_by_its_hash_once_it_came_with_it(gateway: Service) -> None:
    query = f"{{ __typename }} # {uuid.uuid4()}"
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": sha256(query.encode()).hexdigest()}}
    unknown = ask(gateway, extensions=extensions).body
    assert unknown == {
        "errors": [{"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}]
    }
    for text in (query, ""):
        assert ask(gateway, text, extensions=extensions).body == {"data": {"__typename": "Query"}}


def test_a_service_that_does_not_answer_is_waited_for_as_long_as_was_said() -> None:
    silent = Listener()
    where = "{}:{}".format(*silent.address)
    flags = addresses(search_url=f"http://{where}", users_address=where)
    with running("graphql", "--metrics-port", "0", "--call-seconds", "0.3", *flags) as gateway:
        start = time.monotonic()
        answer = ask(gateway, f'{{ searchPosts(words: "tea") {{ next }} person(id: "{uuid.uuid4()}") {{ id }} }}')
        taken = time.monotonic() - start
    silent.close_all()
    assert set(codes(answer)) == {("searchPosts", "TIMEOUT"), ("person", "TIMEOUT")}
    assert 0.3 <= taken < 3.0


def test_it_counts_how_operations_end_and_whom_it_asked(gateway: Service) -> None:
    def counted(*series: str) -> list[float]:
        return [gateway.metric(f"nova_graphql_{one}") for one in series]

    series = (
        'operations_total{result="ok"}',
        'operations_total{result="partial"}',
        'operations_total{result="failed"}',
        'calls_total{result="failed",upstream="search"}',
    )
    before = counted(*series)
    ask(gateway, "{ __typename }")
    ask(gateway, '{ __typename searchPosts(words: "tea") { next } }')
    ask(gateway, "{ nothing }")
    assert [after - earlier for after, earlier in zip(counted(*series), before, strict=True)] == [1, 1, 1, 1]


def test_what_was_asked_is_no_part_of_a_log_line(gateway: Service) -> None:
    gateway.call(
        "/graphql",
        "POST",
        {"query": '{ searchPosts(words: "secretword") { next } }'},
        content_type="application/json",
        x_correlation_id="graphql-1",
    )
    assert "secretword" not in str(gateway.line("request", correlation_id="graphql-1"))


@pytest.mark.parametrize("seconds", ["0", "61", "soon"])
def test_a_patience_that_is_none_is_refused(seconds: str, capfd: pytest.CaptureFixture[str]) -> None:
    from nova_services.__main__ import main  # noqa: PLC0415 - the process is tested above, its usage here

    with pytest.raises(SystemExit):
        main(["graphql", "--call-seconds", seconds])
    assert "expected seconds above 0 and at most 60" in capfd.readouterr().err
