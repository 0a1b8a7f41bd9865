"""AdmissionReview in and out."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_operator.admission.review import Answer, ReviewError, decode, encode, json_patch

ASKED: Any = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": {"kind": "Pod"}, "dryRun": False},
}


def test_what_is_asked_is_read() -> None:
    request = decode(json.dumps(ASKED).encode())
    assert (request.uid, request.operation, request.namespace, request.name) == ("u-1", "CREATE", "shop", "")
    assert (request.object, request.old_object) == ({"kind": "Pod"}, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        json.dumps(ASKED).encode().replace(b"shop", b"\xff"),
        json.dumps({**ASKED, "request": {**ASKED["request"], "object": {"metadata": "x"}}}).encode(),
        json.dumps({**ASKED, "request": {**ASKED["request"], "object": {"metadata": {"labels": ["x"]}}}}).encode(),
        json.dumps({**ASKED, "request": {**ASKED["request"], "oldObject": {"spec": 5}}}).encode(),
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps({**ASKED, "apiVersion": "admission.k8s.io/v1beta1"}).encode(),
        json.dumps({**ASKED, "kind": "Pod"}).encode(),
        json.dumps({**ASKED, "request": None}).encode(),
        json.dumps({**ASKED, "request": {"uid": 1, "operation": "CREATE"}}).encode(),
        json.dumps({**ASKED, "request": {"uid": "1", "operation": "EAT"}}).encode(),
    ],
)
def test_anything_else_is_an_error(body: bytes) -> None:
    with pytest.raises(ReviewError):
        decode(body)


def test_a_refusal_says_why_and_an_answer_carries_its_uid() -> None:
    said = json.loads(encode("u-1", Answer(allowed=False, message="no")))["response"]
    assert said == {"uid": "u-1", "allowed": False, "status": {"code": 422, "reason": "Invalid", "message": "no"}}


def test_warnings_are_kept_short() -> None:
    said = json.loads(encode("u", Answer(warnings=("x" * 300, "y"))))["response"]
    assert [len(warning) for warning in said["warnings"]] == [256, 1]


def test_a_patch_is_encoded() -> None:
    said = json.loads(encode("u", Answer(patch=({"op": "remove", "path": "/a"},))))["response"]
    assert said["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(said["patch"])) == [{"op": "remove", "path": "/a"}]


DOCUMENTS = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda below: st.dictionaries(st.text("a/~", min_size=1, max_size=3), below, max_size=3),
    max_leaves=8,
)


def applied(document: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902, as far as it is used."""
    document = json.loads(json.dumps(document))
    for change in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:]]
        place = document
        for parent in parents:
            place = place[parent]
        assert (last in place) is (change["op"] != "add")
        if change["op"] == "remove":
            del place[last]
        else:
            place[last] = change["value"]
    return document


@given(st.dictionaries(st.text("a/~", min_size=1, max_size=3), DOCUMENTS, max_size=3), st.data())
def test_a_patch_turns_the_one_into_the_other(before: dict[str, Any], data: st.DataObject) -> None:
    after = data.draw(st.dictionaries(st.text("a/~", min_size=1, max_size=3), DOCUMENTS, max_size=3))
    assert applied(before, list(json_patch(before, after))) == after
    assert list(json_patch(before, before)) == []
