"""What a service says of itself: the document, made of types and a table, and that the table is the application's."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from aiohttp import web
from msgspec import Meta

from nova_services.openapi import Api, Operation, Paging, Problem, Raw, document, publish
from nova_services.web import application


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Something written."""

    written_by: UUID
    text: Annotated[str, Meta(min_length=1, max_length=10)]


class Asked(Paging, frozen=True, rename="camel", kw_only=True):
    """Parameters."""

    q: str


READ = Operation("GET", "/notes/{id}", "Read a note.", {200: Note, 404: Problem})
WRITE = Operation("POST", "/notes", "Write a note.", {201: Note}, body=Note, viewer=True)
LIST = Operation("GET", "/notes", "List notes.", {200: Note}, query=Asked)


async def nothing(_request: web.Request) -> web.Response:
    return web.Response()


def told(*operations: Operation) -> dict[str, Any]:
    return document(Api("notes", "Notes.", operations))


def test_a_type_is_told_once_and_by_its_names_on_the_wire() -> None:
    found = told(READ, WRITE)
    assert found["openapi"] == "3.1.0"
    assert found["info"]["title"] == "Nova notes"
    note = found["components"]["schemas"]["Note"]
    assert set(note["properties"]) == {"writtenBy", "text"}
    assert note["properties"]["text"] == {"type": "string", "minLength": 1, "maxLength": 10}
    assert note["additionalProperties"] is False
    body = found["paths"]["/notes"]["post"]["requestBody"]
    assert body == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}},
    }


def test_a_part_of_the_path_is_a_uuid_unless_the_table_says_otherwise() -> None:
    named = Operation("GET", "/people/{id}", "Read.", {200: Note}, parts={"id": Annotated[str, Meta(max_length=36)]})
    for one, schema in ((READ, {"type": "string", "format": "uuid"}), (named, {"type": "string", "maxLength": 36})):
        (operation,) = told(one)["paths"][one.path].values()
        assert operation["parameters"] == [{"name": "id", "in": "path", "required": True, "schema": schema}]


def test_a_query_is_its_fields_and_no_schema_of_its_own() -> None:
    found = told(LIST)
    parameters = {each["name"]: each for each in found["paths"]["/notes"]["get"]["parameters"]}
    assert {name: each["required"] for name, each in parameters.items()} == {
        "q": True,
        "pageSize": False,
        "pageToken": False,
    }
    assert parameters["pageSize"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert "Asked" not in found["components"]["schemas"]


def test_answers_that_follow_from_the_rest_need_not_be_said() -> None:
    assert list(WRITE.every_answer) == [201, 400, 401, 503]
    assert list(READ.every_answer) == [200, 400, 404, 503]
    assert list(Operation("GET", "/keys", "Read.", {200: Note}).every_answer) == [200, 503]
    responses = told(WRITE)["paths"]["/notes"]["post"]["responses"]
    assert responses["503"]["headers"]["Retry-After"]["schema"] == {"type": "integer", "minimum": 1}


def test_who_must_be_known_is_known_by_a_token() -> None:
    found = told(READ, WRITE)
    assert found["paths"]["/notes"]["post"]["security"] == [{"bearer": []}]
    assert "security" not in found["paths"]["/notes/{id}"]["get"]
    assert found["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_what_is_no_json_is_told_by_its_media_types() -> None:
    upload = Operation("POST", "/media", "Keep a file.", {204: None}, body=Raw(kinds=("image/png", "image/jpeg")))
    found = told(upload)["paths"]["/media"]["post"]
    assert set(found["requestBody"]["content"]) == {"image/png", "image/jpeg"}
    assert "content" not in found["responses"]["204"]


def test_operations_have_names_that_no_other_one_has() -> None:
    paths = told(READ, WRITE, LIST)["paths"]
    names = [one["operationId"] for path in paths.values() for one in path.values()]
    assert sorted(names) == ["getNotes", "getNotesId", "postNotes"]


@pytest.mark.parametrize(
    ("routes", "operations", "says"),
    [
        ([web.get("/notes/{id}", nothing)], [READ, WRITE], "only one has POST /notes"),
        ([web.get("/notes/{id}", nothing), web.post("/notes", nothing)], [READ], "only one has POST /notes"),
        ([web.put("/notes/{id}", nothing)], [READ], "only one has GET /notes/{id}, PUT /notes/{id}"),
    ],
)
def test_nothing_is_served_that_the_table_does_not_tell_of_and_the_other_way_round(
    routes: list[web.RouteDef], operations: list[Operation], says: str
) -> None:
    with pytest.raises(ValueError, match=f"notes: .*{says}"):
        publish(application(*routes), Api("notes", "Notes.", tuple(operations)))


def test_paths_without_words_may_be_left_out_by_name() -> None:
    served = application(web.get("/notes/{id}", nothing), web.get("/chat", nothing))
    publish(served, Api("notes", "Notes.", (READ,), beside=("/chat",)))
    assert "/openapi.json" in {resource.canonical for resource in served.router.resources()}
