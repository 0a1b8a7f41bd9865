import json
import os
from pathlib import Path
from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_api.proxy import Address, Affinity, Inbound, Outbound, ProxyConfig, SessionCookie, Store, digest, encode
from nova_api.units import Duration
from nova_sidecar.config import MAX_BYTES, load, load_first

HERE = Address(host="127.0.0.1", port=0)


def text(**fields: Any) -> bytes:
    return encode(ProxyConfig(service="shop", **fields))


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value


def test_a_good_document_comes_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text())

    document = load(path)

    assert document.config == ProxyConfig(service="shop")
    assert document.text == text()
    assert document.hash == digest(text())


def test_no_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.json").rule


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["named pipe", "directory"])
def test_no_regular_file_is_refused_without_waiting(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "config.json")
    assert "expected a" in refusal(tmp_path / "config.json").rule


def test_a_document_too_long(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text() + b" " * MAX_BYTES)
    assert refusal(path).rule == "expected at most 1048576 bytes"


def test_a_document_of_just_the_longest_length(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text().ljust(MAX_BYTES))
    assert load(path).config.service == "shop"


def test_a_wrong_field_is_named_with_its_rule(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    document = json.loads(text())
    document["backpressure"]["maxQueue"] = "many"
    path.write_text(json.dumps(document))
    assert str(refusal(path)) == "$.backpressure.maxQueue: expected int, got str"


@pytest.mark.parametrize("port", [15020, 15021])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "localhost.", "::1", "0.0.0.0", "127.9.9.9", "::ffff:127.0.0.1", "::"]
)
def test_the_data_path_does_not_lead_to_the_admin_servers(tmp_path: Path, host: str, port: int) -> None:
    own = Address(host=host, port=port)
    path = tmp_path / "config.json"

    path.write_bytes(text(inbound=(Inbound(name="web", listen=HERE, app=own),)))
    assert refusal(path).path == "$.inbound[0].app"

    path.write_bytes(text(outbound=(Outbound(name="db", listen=HERE, upstream=own),)))
    assert refusal(path).path == "$.outbound[0].upstream"


def test_another_hosts_port_of_that_number_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text(outbound=(Outbound(name="db", listen=HERE, upstream=Address(host="db", port=15020)),)))
    assert load(path).config.outbound[0].upstream.port == 15020


def test_an_upstream_does_not_lead_back_into_the_data_path(tmp_path: Path) -> None:
    """One request would otherwise be forwarded until every connection of the pool is used."""
    path = tmp_path / "config.json"
    there = Address(host="127.77.0.1", port=5432)
    path.write_bytes(text(outbound=(Outbound(name="db", listen=there, upstream=there),)))
    assert refusal(path).path == "$.outbound[0].upstream"

    first, second = Address(host="127.77.0.1", port=1), Address(host="127.77.0.2", port=1)
    circle = (
        Outbound(name="a", listen=first, upstream=second),
        Outbound(name="b", listen=second, upstream=Address(host="b", port=1)),
    )
    path.write_bytes(text(outbound=circle))
    assert refusal(path).path == "$.outbound[0].upstream"


def test_a_start_takes_the_last_good_document_where_the_other_cannot_be_used(tmp_path: Path) -> None:
    config, spare = tmp_path / "config.json", tmp_path / "last-good.json"
    config.write_bytes(text().replace(b'"shop"', b"5"))
    with pytest.raises(ConfigError, match=r"\$\.service: expected str"):
        load_first(config)
    spare.write_bytes(b"{")
    with pytest.raises(ConfigError, match=r"\$\.service: expected str"):  # of the document that was asked for
        load_first(config)
    spare.write_bytes(text())
    assert load_first(config).text == text()
    config.write_bytes(text(namespace="other"))
    assert load_first(config).config.namespace == "other"


def test_a_store_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    cookie = SessionCookie(name="s", path="/", same_site="Lax", secure=False)
    store = Store(url="redis://a,b", timeout=Duration(0.1))
    path.write_bytes(text(affinity=Affinity(timeout=Duration(60), cookie=cookie, store=store)))
    assert str(refusal(path)).startswith("$.affinity.store.url: expected one server")
