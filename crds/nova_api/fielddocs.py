"""Descriptions for people, taken from where a programmer reads them: the text under each field of a struct.

Python keeps no docstring for a field, so they are read from the source.
"""

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise


def summary(model: type) -> str:
    """The class docstring in one line."""
    return one_line(inspect.getdoc(model) or "")


@cache
def field_docs(model: type) -> dict[str, str]:
    """Python field name → the string literal that follows it, in one line, those of bases included. Fields without one
    are absent."""
    docs = {name: text for base in model.__bases__ for name, text in _docs_above(base).items()}
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    definition = tree.body[0]
    if not isinstance(definition, ast.ClassDef):
        return docs
    for statement, after in pairwise(definition.body):
        text = _literal(after)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and text:
            docs[statement.target.id] = one_line(text)
    return docs


def _docs_above(base: type) -> dict[str, str]:
    """The fields of a base. Those that all structs have are not of the API, and msgspec's own has no source."""
    ours = base.__module__.startswith("nova_api.") and base.__module__ != "nova_api.model"
    return field_docs(base) if ours else {}


def one_line(text: str) -> str:
    """Runs of white space as one space."""
    return " ".join(text.split())


def _literal(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None
