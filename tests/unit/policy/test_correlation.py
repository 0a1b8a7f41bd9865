import uuid
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.correlation import LONGEST, CorrelationIds, acceptable


def make(seed: int = 3) -> CorrelationIds:
    return CorrelationIds(Random(seed).randbytes)


def test_made_ids_are_version_4_uuids_in_their_one_text_form() -> None:
    ids = make()
    for _ in range(1000):
        text = ids.generate().decode()
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)


def test_every_random_bit_is_used() -> None:
    ids = make()
    values = [uuid.UUID(ids.generate().decode()).int for _ in range(2000)]
    assert len(set(values)) == 2000
    ones = [sum(value >> bit & 1 for value in values) for bit in range(128)]
    fixed = {bit for bit, count in enumerate(ones) if count in (0, 2000)}
    assert fixed == {62, 63, 76, 77, 78, 79}  # RFC 9562 section 5.4: variant and version
    assert all(800 < count < 1200 for bit, count in enumerate(ones) if bit not in fixed)


def test_entropy_is_asked_for_once_per_batch() -> None:
    asked: list[int] = []
    random = Random(1)

    def entropy(count: int) -> bytes:
        asked.append(count)
        return random.randbytes(count)

    ids = CorrelationIds(entropy)
    for _ in range(256):
        ids.generate()
    assert asked == [2048, 2048]


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b"3f2b8c1e-1111-4222-8333-444455556666",
        b"01ARZ3NDEKTSV4RRFFQ69G5FAV",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"Zm9vYmFyYg==",
        b"orders/2024:7_x~y.z+1",
        b"x" * 128,
    ],
)
def test_a_harmless_id_is_taken_over(value: bytes) -> None:
    ids = make()
    assert ids.adopt(value) == value
    assert (ids.generated, ids.replaced) == (0, 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x" * 129,
        b"a b",
        b"a\r\nset-cookie: x",
        b"a\nINFO forged line",
        b"a\x00",
        b"a\tb",
        b'a","level":"error',
        b"a\\u000a",
        b"${jndi:ldap://x}",
        b"<script>",
        b"a,b",
        b"a;b",
        b"a%0d%0a",
        b"someone@example.org",
        b"\x1b[31m",
        "é".encode(),
        b"\xff",
        b"\x7f",
    ],
)
def test_anything_else_is_replaced(value: bytes) -> None:
    ids = make()
    assert uuid.UUID(ids.adopt(value).decode()).version == 4
    assert (ids.generated, ids.replaced) == (1, 1)


def test_a_missing_id_is_made() -> None:
    ids = make()
    assert uuid.UUID(ids.adopt(None).decode()).version == 4
    assert (ids.generated, ids.replaced) == (1, 0)


@given(st.binary(max_size=200))
def test_what_goes_on_is_always_harmless(value: bytes) -> None:
    adopted = make().adopt(value)
    assert 1 <= len(adopted) <= LONGEST
    assert all(chr(c) in "-._~:/+=" or (chr(c).isalnum() and c < 128) for c in adopted)
    assert acceptable(adopted)
    assert (adopted == value) == acceptable(value)
