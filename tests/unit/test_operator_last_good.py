"""Which configuration is put into force: a table of what is there, what sidecars say, and what follows."""

from typing import Any

import pytest

from nova_api import names
from nova_api.proxy import digest
from nova_operator.last_good import ANNOTATION_REFUSED, Fleet, Refused, Stored, choose, read, write
from nova_operator.pods import PodView
from nova_operator.sidecars import Refusal, SidecarReport

A, B, C = "document a", "document b", "document c"


def hash_of(document: str) -> str:
    return digest(document.encode())


def runs(document: str, *, refuses: str = "") -> SidecarReport:
    refusal = Refusal("$.x", "expected less", hash_of(refuses)) if refuses else None
    return SidecarReport(hash_of(document), refusal)


def fleet(*reports: SidecarReport, images: tuple[str, ...] = (), **changes: Any) -> Fleet:
    pods = tuple(
        PodView(
            name=f"p{number}",
            uid=str(number),
            resource_version="1",
            address="10.0.0.1",
            ready=True,
            leaving=False,
            hash_annotation="",
            trouble=None,
            sidecar_image=image,
        )
        for number, image in zip(range(len(reports)), (*images, *["new"] * len(reports)), strict=False)
    )
    told = {str(number): report for number, report in enumerate(reports)}
    return Fleet(**{"pods": pods, "reports": told, "image": "new", **changes})


REFUSED_B = choose(B, Stored(document=B, last_good=A), fleet(runs(A, refuses=B))).refused
ROLLED_BACK = Stored(document=A, last_good=A, refused=REFUSED_B)

TABLE: dict[str, tuple[str, Stored | None, Fleet, Stored]] = {
    "the first document": (A, None, fleet(), Stored(document=A)),
    "nothing changed": (A, Stored(document=A), fleet(runs(A)), Stored(document=A)),
    "a new document, and a sidecar runs the old one": (
        B,
        Stored(document=A),
        fleet(runs(A)),
        Stored(document=B, last_good=A),
    ),
    "a new document, and the process before this one saw all run the old one": (
        B,
        Stored(document=A),
        fleet(proven=hash_of(A)),
        Stored(document=B, last_good=A),
    ),
    "a new document before the one before it was proven": (
        C,
        Stored(document=B, last_good=A),
        fleet(runs(A)),
        Stored(document=C, last_good=A),
    ),
    "a sidecar refuses the new document": (B, Stored(document=B, last_good=A), fleet(runs(A, refuses=B)), ROLLED_BACK),
    "one of two refuses it": (
        B,
        Stored(document=B, last_good=A),
        fleet(runs(B), runs(A, refuses=B)),
        Stored(document=A, last_good=A, refused=Refused(hash_of(B), REFUSED_B.trial, "p1", "$.x: expected less")),  # type: ignore[union-attr]
    ),
    "a sidecar refused another document": (
        B,
        Stored(document=B, last_good=A),
        fleet(runs(A, refuses=C)),
        Stored(document=B, last_good=A),
    ),
    "there is nothing to go back to": (B, Stored(document=B), fleet(runs(A, refuses=B)), Stored(document=B)),
    "it was refused before": (B, ROLLED_BACK, fleet(runs(A)), ROLLED_BACK),
    "it was refused before, and somebody changed what is in force": (
        B,
        Stored(document=C, last_good=A, refused=REFUSED_B),
        fleet(runs(A)),
        ROLLED_BACK,
    ),
    "the spec was changed since": (C, ROLLED_BACK, fleet(runs(A)), Stored(document=C, last_good=A)),
    "the spec was taken back": (A, ROLLED_BACK, fleet(runs(A)), Stored(document=A, last_good=A)),
    "the sidecar's image was changed since": (
        B,
        ROLLED_BACK,
        fleet(runs(A), image="newer"),
        Stored(document=B, last_good=A),
    ),
    "somebody removed the annotation": (
        B,
        Stored(document=A, last_good=A),
        fleet(runs(A)),
        Stored(document=B, last_good=A),
    ),
    "an old sidecar refuses it, and is about to go": (
        B,
        Stored(document=B, last_good=A),
        fleet(runs(B), runs(A, refuses=B), images=("new", "old"), replacing=True),
        Stored(document=B, last_good=A),
    ),
    "an old sidecar refuses it, and stays": (
        B,
        Stored(document=B, last_good=A),
        fleet(runs(A, refuses=B), images=("old",)),
        ROLLED_BACK,
    ),
}


@pytest.mark.parametrize(("wanted", "there", "sidecars", "expected"), TABLE.values(), ids=TABLE)
def test_what_is_put_into_force(wanted: str, there: Stored | None, sidecars: Fleet, expected: Stored) -> None:
    chosen = choose(wanted, there, sidecars)
    assert _short(chosen) == _short(expected)
    assert (chosen.refused is None) == (expected.refused is None)


def _short(stored: Stored) -> tuple[str, str | None, tuple[str, str] | None]:
    refused = stored.refused
    return stored.document, stored.last_good, (refused.hash, refused.said) if refused else None


@pytest.mark.parametrize(("wanted", "there", "sidecars", "_expected"), TABLE.values(), ids=TABLE)
def test_a_second_look_without_news_changes_nothing(
    wanted: str, there: Stored | None, sidecars: Fleet, _expected: Stored
) -> None:
    once = choose(wanted, there, sidecars)
    if once.refused is None and once.document == wanted and sidecars.refusal(hash_of(wanted)):
        return  # it goes back at the second look, since a refusal was heard
    assert choose(wanted, once, sidecars) == once


def manifest(document: str = B) -> dict[str, Any]:
    return {"metadata": {"annotations": {"nova.dev/manifest-hash": "x"}}, "data": {names.CONFIG_KEY: document}}


@pytest.mark.parametrize("stored", [Stored(document=B), Stored(document=B, last_good=A), ROLLED_BACK])
def test_what_is_written_is_read_again(stored: Stored) -> None:
    written = write(manifest(), stored)
    assert read(written) == stored


def test_each_choice_has_a_hash_of_its_own_or_it_would_pass_for_unchanged() -> None:
    choices = (Stored(document=B), Stored(document=B, last_good=A), ROLLED_BACK)
    hashes = [write(manifest(), stored)["metadata"]["annotations"]["nova.dev/manifest-hash"] for stored in choices]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize(
    "nonsense", ["", "{", "[]", '{"hash":1}', '{"hash":"a"}', "[" * 100_000, '{"x":' + "[" * 100_000]
)
def test_an_annotation_that_says_nothing_is_none(nonsense: str) -> None:
    document = manifest()
    document["metadata"]["annotations"][ANNOTATION_REFUSED] = nonsense
    assert read(document) == Stored(document=B)


@pytest.mark.parametrize("config_map", [None, {"metadata": {}}, {"metadata": {}, "data": {"other": "x"}}])
def test_without_a_document_there_is_nothing(config_map: Any) -> None:
    assert read(config_map) is None
