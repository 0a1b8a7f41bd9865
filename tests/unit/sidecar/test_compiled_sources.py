"""What the compiler takes for something else than Python does is not in the sources that it gets."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_SPEC = importlib.util.spec_from_file_location("nova_compile", ROOT / "sidecar" / "compile.py")
assert _SPEC is not None
assert _SPEC.loader is not None
compiling = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(compiling)
SOURCES = compiling.modules(ROOT / "sidecar" / "nova_sidecar")


def test_there_are_sources() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT / "sidecar")))
def test_no_constant_is_a_tuple_with_floats_of_a_fixed_length(source: Path) -> None:
    """mypyc counts one as never set and fails where it is read; ``Final[tuple[float, ...]]`` has any length."""
    assert fixed(source.read_text()) == []


def test_one_would_be_found() -> None:
    assert fixed("A: Final = (1, 0.5)\nB: Final[tuple[float, ...]] = (0.5,)\nC: Final = (1, 2)\n") == ["A"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT / "sidecar")))
def test_no_class_is_a_struct(source: Path) -> None:
    """mypyc cannot make one, whose base has a metaclass, and says so as the module is imported, which may be late."""
    assert structs(source.read_text()) == []


def test_a_struct_would_be_found() -> None:
    assert structs("class A(msgspec.Struct): ...\nclass B(Model, frozen=True): ...\nclass C(A): ...\n") == ["A", "B"]


def structs(text: str) -> list[str]:
    """Names of classes of a module that extend one of msgspec's, or of the API's models."""
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).rpartition(".")[2] in ("Struct", "Model") for base in node.bases)
    ]


def fixed(text: str) -> list[str]:
    """Names of such constants of a module."""
    return [
        statement.target.id
        for statement in ast.parse(text).body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(statement.annotation, ast.Name)
        and isinstance(statement.value, ast.Tuple)
        and any(isinstance(each, ast.Constant) and isinstance(each.value, float) for each in statement.value.elts)
    ]
