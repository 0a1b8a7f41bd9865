"""`nova dev` and the Redis of request policies: left alone, or the one on this machine."""

from pathlib import Path

import pytest

from nova_api.errors import ConfigError
from nova_api.proxy import Address
from nova_cli.devfile import load, resolved

DOCUMENT = """
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {name: shop}
spec:
  image: shop
  ports: [{port: 8080, appPort: 9000}]
"""
REDIS = '  redis: {url: "redis://redis.data:6379/3", secret: login, timeout: 70ms}\n'
HERE = Address(host="127.0.0.1", port=6379)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(DOCUMENT + REDIS)
    return path


def test_it_is_left_alone(file: Path) -> None:
    assert load(file, None, {}).config.store is None
    assert resolved(file, None).store is not None


def test_the_one_on_this_machine_is_asked_without_a_login_and_waited_for_as_long(file: Path) -> None:
    store = load(file, None, {}, redis=HERE).config.store
    assert store is not None
    assert (store.url, store.directory, float(store.timeout)) == ("redis://127.0.0.1:6379/0", "", 0.07)


def test_a_service_that_has_none(file: Path) -> None:
    file.write_text(DOCUMENT)
    with pytest.raises(ConfigError, match=r"^\$\.spec\.redis: expected it to be set, since --redis"):
        load(file, None, {}, redis=HERE)


def test_a_url_that_the_cluster_would_refuse_is_refused_here(file: Path) -> None:
    file.write_text(DOCUMENT + REDIS.replace("6379", "99999"))
    with pytest.raises(ConfigError, match=r"^\$\.spec\.redis\.url: expected ports from 1 to 65535"):
        load(file, None, {})
