import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.patterns import CIDR
from nova_api.request_policies.rate_limit import ClientAddress
from nova_sidecar.policy.clients import ClientAddresses, parse

XFF = b"x-forwarded-for"


def client(policy: ClientAddress, peer: str, header: bytes = b"", *, sibling: bool = False, mark: bool = False) -> str:
    """The client, as an address."""
    name = b"forwarded" if policy.header == "forwarded" else XFF
    captured = {name: header} if header else {}
    key = ClientAddresses(policy, lambda _: sibling).key(peer, captured, mark)
    return ".".join(map(str, key)) if len(key) == 4 else key.hex(":", 2) if len(key) == 16 else key.decode()


NONE = ClientAddress()
ONE = ClientAddress(trusted_proxies=1)
TWO = ClientAddress(trusted_proxies=2)
NETS = ClientAddress(trusted_cidrs=("10.0.0.0/8", "fd00::/8"))
RFC7239 = ClientAddress(trusted_proxies=1, header="forwarded")


@pytest.mark.parametrize(
    ("policy", "peer", "header", "expected"),
    [
        (NONE, "192.0.2.1", b"203.0.113.9", "192.0.2.1"),  # nobody is trusted
        (ONE, "10.0.0.1", b"203.0.113.9", "203.0.113.9"),
        (ONE, "10.0.0.1", b"1.1.1.1, 203.0.113.9", "203.0.113.9"),  # what the client wrote itself
        (ONE, "10.0.0.1", b"1.1.1.1,203.0.113.9 ", "203.0.113.9"),
        (ONE, "10.0.0.1", b"", "10.0.0.1"),
        (ONE, "10.0.0.1", b"unknown", "10.0.0.1"),
        (ONE, "10.0.0.1", b"203.0.113.9:4711", "203.0.113.9"),
        (ONE, "10.0.0.1", b"::ffff:203.0.113.9", "203.0.113.9"),
        (TWO, "10.0.0.1", b"1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (TWO, "10.0.0.1", b"203.0.113.9", "10.0.0.1"),  # it came past a proxy
        (NETS, "10.0.0.1", b"1.1.1.1, 203.0.113.9, 10.3.3.3", "203.0.113.9"),
        (NETS, "192.0.2.1", b"203.0.113.9", "192.0.2.1"),  # the peer is no proxy
        (NETS, "10.0.0.1", b"10.9.9.9", "10.9.9.9"),
        (NETS, "10.0.0.1", b"203.0.113.9, _hidden, 10.3.3.3", "10.3.3.3"),
        (NETS, "fd00::1", b"203.0.113.9", "203.0.113.9"),
        (RFC7239, "10.0.0.1", b"for=1.1.1.1, for=203.0.113.9;proto=https", "203.0.113.9"),
        (RFC7239, "10.0.0.1", b'for=1.1.1.1, proto=http; For="203.0.113.9:80"', "203.0.113.9"),
        (RFC7239, "10.0.0.1", b'for="[2001:db8::1]:80"', "2001:0db8:0000:0000:0000:0000:0000:0000"),
        (RFC7239, "10.0.0.1", b'for="1.1.1.1, for=203.0.113.9', "203.0.113.9"),  # an open quote hides nothing
        (RFC7239, "10.0.0.1", b"for=_hidden", "10.0.0.1"),
        (RFC7239, "10.0.0.1", b"for=1.1.1.1, by=3.3.3.3", "10.0.0.1"),
        (NONE, "", b"", ""),
    ],
)
def test_whose_address_counts(policy: ClientAddress, peer: str, header: bytes, expected: str) -> None:
    assert client(policy, peer, header) == expected


def test_addresses_of_one_network_are_one_client() -> None:
    addresses = ClientAddresses(NONE, lambda _: False)
    assert addresses.key("2001:db8::1", {}, False) == addresses.key("2001:db8::ffff:ffff:ffff:ffff", {}, False)
    assert addresses.key("2001:db8::1", {}, False) != addresses.key("2001:db8:0:1::1", {}, False)
    assert addresses.key("::ffff:192.0.2.1", {}, False) == addresses.key("192.0.2.1", {}, False)
    narrow = ClientAddresses(ClientAddress(ipv6_prefix=48), lambda _: False)
    assert narrow.key("2001:db8::1", {}, False) == narrow.key("2001:db8:0:1::1", {}, False)


def test_what_a_sibling_hands_over_counts_for_the_client() -> None:
    assert client(NONE, "10.1.1.1", b"203.0.113.9", sibling=True, mark=True) == "203.0.113.9"
    assert client(ONE, "10.1.1.1", b"203.0.113.9, 10.0.0.1", sibling=True, mark=True) == "203.0.113.9"
    assert client(NONE, "10.1.1.1", b"", sibling=True, mark=True) == "10.1.1.1"


def test_the_mark_alone_proves_nothing() -> None:
    assert client(NONE, "192.0.2.1", b"203.0.113.9", sibling=False, mark=True) == "192.0.2.1"
    assert client(NONE, "10.1.1.1", b"203.0.113.9", sibling=True, mark=False) == "10.1.1.1"


@given(st.binary(max_size=120), st.sampled_from([ONE, TWO, RFC7239]))
def test_whatever_a_client_writes_the_proxys_word_counts(written: bytes, policy: ClientAddress) -> None:
    """The proxy appends the address that called it; the client wrote what stands before."""
    ending = {ONE: b"203.0.113.9", TWO: b"203.0.113.9, 10.0.0.2", RFC7239: b"for=203.0.113.9"}[policy]
    assert client(policy, "10.0.0.1", written + b", " + ending) == "203.0.113.9"


@given(
    st.one_of(
        st.from_regex(CIDR.removesuffix(r"\Z"), fullmatch=True),
        st.sampled_from(["10.0.0.999/8", "10.0.0.0/33", "10.0.0.0", "::/129", ":::/8", "1:2:3:4:5:6:7:8:9/8", "x/8"]),
    )
)
def test_networks_are_those_that_can_be_used(text: str) -> None:
    """What the form lets pass must never fail in a sidecar."""
    if re.fullmatch(CIDR, text):
        ClientAddresses(convert({"trustedCidrs": [text]}, ClientAddress), lambda _: False).key("10.0.0.1", {}, False)
    else:
        with pytest.raises(ConfigError):
            convert({"trustedCidrs": [text]}, ClientAddress)


def test_a_long_header_is_read_from_its_end() -> None:
    assert client(NETS, "10.0.0.1", b"203.0.113.9, " + b"10.0.0.2, " * 5000 + b"10.0.0.3") == "10.0.0.2"


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1.2.3.4:x", "[::1", "999.1.1.1", "1.2.3.4.5"])
def test_what_is_no_address(text: str) -> None:
    assert parse(text) is None
