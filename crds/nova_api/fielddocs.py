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
    """Python field name → the string literal that follows it, in one line. Fields without one are absent."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    definition = tree.body[0]
    if not isinstance(definition, ast.ClassDef):
        return {}
    docs = {}
    for statement, after in pairwise(definition.body):
        text = _literal(after)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and text:
            docs[statement.target.id] = one_line(text)
    return docs


def one_line(text: str) -> str:
    """Runs of white space as one space."""
    return " ".join(text.split())


def _literal(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None
