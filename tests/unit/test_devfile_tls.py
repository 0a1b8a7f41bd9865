"""`nova dev` and the files of Secrets: from folders on this machine, or a message that says what to do."""

from pathlib import Path

import pytest

from nova_api.errors import ConfigError
from nova_api.proxy import Address
from nova_cli.devfile import Elsewhere, load

DOCUMENT = """
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {name: shop}
spec:
  image: shop
  ports: [{port: 8080, appPort: 9000}]
  upstreams:
    - {name: public, host: api.example, port: 443, tls: {}}
    - {name: stock, host: stock, port: 8443, tls: {secret: stock-client, serverName: stock.example}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(DOCUMENT)
    return path


def test_files_come_from_a_folder_per_secret(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tls" / "stock-client"
    folder.mkdir(parents=True)
    public, stock = load(file, None, {}, tmp_path / "tls").config.outbound
    assert public.tls is not None
    assert (public.tls.server_name, public.tls.directory) == ("api.example", "")
    assert stock.tls is not None
    assert (stock.tls.server_name, stock.tls.directory) == ("stock.example", str(folder))


def test_a_folder_that_is_missing_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stock-client") as raised:
        load(file, None, {}, tmp_path / "tls")
    assert raised.value.path == "$.spec.upstreams[1].tls.secret"
    assert "--tls-directory" in raised.value.rule


JWT = """
  jwt:
    issuers:
      - {issuer: "https://a", audiences: [shop], jwksUrl: "https://a/keys"}
      - {issuer: "https://b", audiences: [shop], jwksUrl: "https://b/keys", secret: b-ca}
"""


def test_an_issuers_host_is_known_by_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(DOCUMENT.partition("  upstreams:")[0] + JWT)
    with pytest.raises(ConfigError, match="--tls-directory") as raised:
        load(file, None, {}, tmp_path)
    assert raised.value.path == "$.spec.jwt.issuers[1].secret"

    (tmp_path / "b-ca").mkdir()
    jwt = load(file, None, {}, tmp_path).config.jwt
    assert jwt is not None
    assert jwt.directories == ("", str(tmp_path / "b-ca"))


def test_an_upstream_that_is_sent_elsewhere_is_called_plainly(file: Path, tmp_path: Path) -> None:
    elsewhere = {"stock": Elsewhere(Address(host="127.0.0.1", port=7000))}
    _, stock = load(file, None, elsewhere, tmp_path / "tls").config.outbound
    assert (stock.upstream.port, stock.tls) == (7000, None)


def test_an_upstream_that_is_sent_elsewhere_by_tls_keeps_its_name_and_files(file: Path, tmp_path: Path) -> None:
    (tmp_path / "stock-client").mkdir()
    there = Elsewhere(Address(host="127.0.0.1", port=7000), tls=True)
    public, stock = load(file, None, {"stock": there, "public": there}, tmp_path).config.outbound
    assert (stock.upstream.port, public.upstream.port) == (7000, 7000)
    assert stock.tls is not None
    assert (stock.tls.server_name, stock.tls.directory) == ("stock.example", str(tmp_path / "stock-client"))
    assert public.tls is not None
    assert public.tls.server_name == "api.example"


def test_tls_elsewhere_needs_tls_in_the_file(file: Path) -> None:
    file.write_text(
        DOCUMENT.replace(", tls: {}", "").replace(", tls: {secret: stock-client, serverName: stock.example}", "")
    )
    there = Elsewhere(Address(host="127.0.0.1", port=7000), tls=True)
    with pytest.raises(ConfigError, match="tls://") as raised:
        load(file, None, {"stock": there})
    assert raised.value.path == "$.spec.upstreams[1].tls"
