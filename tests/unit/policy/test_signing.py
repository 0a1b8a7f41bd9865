"""Signed texts: what comes back is what was signed, for this purpose, by one of these secrets, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.signing import LEAST, SecretError, Signer, read_secrets

OLD, NEW = b"o" * LEAST, b"n" * LEAST
texts = st.binary(max_size=64)


@given(texts)
def test_what_was_signed_is_read_back(text: bytes) -> None:
    signer = Signer((OLD,), "shop")
    assert signer.verify(signer.sign(text)) == text


@given(texts, st.data())
def test_one_changed_bit_is_enough_to_be_refused(text: bytes, data: st.DataObject) -> None:
    signer = Signer((OLD,), "shop")
    signed = bytearray(signer.sign(text))
    at = data.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= 1 << data.draw(st.integers(0, 7))
    assert signer.verify(bytes(signed)) is None


@given(st.binary(max_size=256))
def test_nothing_that_was_not_signed_is_taken(text: bytes) -> None:
    assert Signer((OLD, NEW), "shop").verify(text) is None


@given(texts, st.integers(0, 200))
def test_nor_a_part_of_what_was(text: bytes, length: int) -> None:
    signer = Signer((OLD,), "shop")
    signed = signer.sign(text)
    if length < len(signed):
        assert signer.verify(signed[:length]) is None
        assert signer.verify(signed[len(signed) - length :]) is None


def test_a_secret_is_changed_without_refusing_what_was_signed_before() -> None:
    before = Signer((OLD,), "shop").sign(b"text")
    both = Signer((NEW, OLD), "shop")
    assert both.verify(before) == b"text"
    assert Signer((NEW,), "shop").verify(both.sign(b"text")) == b"text"  # the first one signs
    assert Signer((NEW,), "shop").verify(before) is None


def test_what_was_signed_for_another_purpose_means_nothing() -> None:
    assert Signer((OLD,), "shop").verify(Signer((OLD,), "cart").sign(b"text")) is None


@pytest.mark.parametrize(
    ("content", "secrets"),
    [
        (OLD, (OLD,)),
        (OLD + b"\n", (OLD,)),
        (NEW + b"\r\n\n  " + OLD + b"\n", (NEW, OLD)),
        (b"\xff" * 16 + b"\n" + b"\xfe" * 16, (b"\xff" * 16 + b"\n" + b"\xfe" * 16,)),  # random bytes are one secret
    ],
)
def test_the_secrets_of_a_file(content: bytes, secrets: tuple[bytes, ...]) -> None:
    assert read_secrets(content) == secrets


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"short", "at least 32 bytes in line 1, got 5"),
        (OLD + b"\nhunter2", "at least 32 bytes in line 2, got 7"),
        (b"\xff" * 31, "got 31"),
        (b"\n".join([OLD] * 9), "at most 8 lines, got 9"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_a_word_of_it(content: bytes, why: str) -> None:
    with pytest.raises(SecretError, match=why) as refused:
        read_secrets(content)
    assert "hunter2" not in str(refused.value)
