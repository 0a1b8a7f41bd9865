"""YAML as people write it: list items indented below their key, nothing named by an anchor."""

from typing import Any

import yaml


class _BlockDumper(yaml.SafeDumper):
    """Writes shared values out wherever they stand; PyYAML would refer back to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _text(dumper: _BlockDumper, text: str) -> yaml.ScalarNode:
    """Kubernetes reads y and n as booleans (YAML 1.1), PyYAML does not and leaves them bare: members of a JWK are
    called so."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if text in _SHORT else None)


_SHORT = frozenset("yYnN")
_BlockDumper.add_representer(str, _text)


def dump(*documents: object, explicit_start: bool = False) -> str:
    """The documents as one YAML stream, keys in their own order; with ``---`` in front of each if asked."""
    return yaml.dump_all(
        documents, Dumper=_BlockDumper, explicit_start=explicit_start, sort_keys=False, width=120, allow_unicode=True
    )
