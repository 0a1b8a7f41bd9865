import re
from pathlib import Path

import pytest

from nova_api import patterns
from nova_api.errors import ConfigError
from nova_api.model import convert, decode_json
from nova_api.proxy import ProxyConfig, decode
from nova_api.v1alpha1 import NovaService
from tests.documents import MINIMAL, with_upstream


def test_an_error_reads_path_then_rule() -> None:
    error = ConfigError("$.a", "expected b")
    assert (error.path, error.rule, str(error)) == ("$.a", "expected b", "$.a: expected b")


def test_an_error_seen_from_further_up_has_the_longer_path() -> None:
    assert str(ConfigError("$.a[0]", "expected b").below("$.c")) == "$.c.a[0]: expected b"
    assert str(ConfigError("$", "expected b").below("$.c")) == "$.c: expected b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "$: expected a document, got malformed text"),
        (b"{", "$: expected a document, got malformed text"),
        (b"\xff", "$: expected a document, got malformed text"),
        (b"[]", "$: expected object, got array"),
        (b'{"service": 1}', "$.service: expected str, got int"),
        (b'{"service": "a", "format": "b"}', "$.format: expected one of nova.dev/proxy/v1alpha1, got 'b'"),
        (b'{"service": "a", "inbound": [{}]}', "$.inbound[0]: object missing required field name"),
        (b'{"service": "a", "drain": {"delay": 5}}', "$.drain.delay: expected a duration such as 250ms"),
    ],
)
def test_a_bad_proxy_document_names_the_field(text: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        decode(text)
    assert str(refused.value).startswith(message)


def test_a_deeply_nested_document_is_refused_like_any_other() -> None:
    with pytest.raises(ConfigError, match=r"^\$: expected a document, got one nested too deeply"):
        decode_json(b'{"status":{"a":' + b"[" * 100_000, NovaService)


def test_listeners_must_have_names_of_their_own() -> None:
    listener = {"name": "a", "listen": {"host": "127.0.0.1", "port": 1}, "app": {"host": "127.0.0.1", "port": 2}}
    with pytest.raises(ConfigError, match=r"^\$: inbound: names must be unique$"):
        convert({"service": "a", "inbound": [listener, listener]}, ProxyConfig)


def test_a_null_in_a_list_is_no_field_left_out() -> None:
    with pytest.raises(ConfigError, match=r"^\$\.spec\.ports\[0\]: expected object, got null$"):
        convert(MINIMAL | {"spec": {"image": "a", "ports": [None]}}, NovaService)


def test_an_override_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^\$\.spec\.upstreams\[0\]\.pool: expected object, got list$"):
        convert(with_upstream(pool=[]), NovaService)


def test_a_key_that_is_no_text_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError) as refused:
        convert({**MINIMAL, "metadata": {"name": "a", 7: "b"}}, NovaService)
    assert str(refused.value) == "$.metadata: expected str as a key; write it in quotes"


def test_a_wrong_form_is_told_in_words() -> None:
    with pytest.raises(ConfigError) as refused:
        convert(with_upstream(tls={"serverName": "a b"}), NovaService)
    assert str(refused.value) == (
        "$.spec.upstreams[0].tls.serverName: expected a host name in lower case, such as auth-service or auth.shop.svc"
    )


def test_every_form_has_its_words() -> None:
    forms = {value for name, value in vars(patterns).items() if name.isupper() and isinstance(value, str)}
    assert forms == set(patterns.WORDS)
    sources = Path(patterns.__file__).parent.glob("*.py")
    assert not [file.name for file in sources if re.search(r'Meta\(\s*pattern=r?"', file.read_text())]
