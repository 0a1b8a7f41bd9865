"""What the model says of good and bad documents; `tests/cluster/test_crd.py` asks the API server the same."""

from typing import Any, get_args, get_type_hints

import pytest
import yaml

from nova_api.errors import ConfigError
from nova_api.model import Model, builtins, convert
from nova_api.v1alpha1 import NovaService, NovaServiceSpec
from tests.documents import BAD, GOOD, Bad, Document


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_a_good_document_survives_a_round_trip_through_yaml(document: Document) -> None:
    service = convert(document, NovaService)
    written = yaml.safe_dump(builtins(service))
    assert convert(yaml.safe_load(written), NovaService) == service


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_document_is_refused_with_field_and_rule(bad: Bad) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(bad.document, NovaService)
    assert str(refused.value) == bad.model


def test_the_table_breaks_every_rule_of_the_service() -> None:
    """A rule that no document breaks could say anything."""
    messages = {rule.message for model in _models(NovaServiceSpec) for rule in model.rules}
    assert len(messages) > 10
    assert {message for message in messages if not any(message in bad.model for bad in BAD.values())} == set()


def _models(hint: Any) -> set[type[Model]]:
    """The structs that a type is made of."""
    if isinstance(hint, type) and issubclass(hint, Model):
        return {hint}.union(*(_models(below) for below in get_type_hints(hint, include_extras=True).values()))
    return set[type[Model]]().union(*(_models(below) for below in get_args(hint)))
