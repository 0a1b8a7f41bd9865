"""What a GraphQL document contains, measured before the app has to (GraphQL specification, October 2021).

A document of a few hundred bytes can ask for more than an app can give: fields nested without end, one field under a
thousand aliases, lists of lists, fragments that spread each other twice, level upon level. So each is measured with its
fragments spread, and a fragment is measured once, however often it is spread: the time it takes is linear in the
document. Numbers stop counting at `MOST`; what is beyond every limit need not be told apart.

Two documents that differ in white space, commas and comments are the same (section 2.1.7); `Document.digest` is that of
the form which the printer gives them. The order of fields counts: it is the order of the answer.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple

from graphql import (
    DirectiveNode,
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSyntaxError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    Source,
    VariableNode,
    parse,
    print_ast,
)

MOST: Final = 1_000_000_000
"""From here on numbers are the same."""
_SIZES: Final = frozenset(("first", "last", "limit"))
"""Arguments that say how many items of a list are wanted (Relay's connections, and common usage)."""


class QueryError(Exception):
    """No document to work with; the message is one sentence, without the document's own words."""


class Hint(NamedTuple):
    """What @cacheControl says on an operation."""

    seconds: int | None
    private: bool


class Weight(NamedTuple):
    """What a selection contains, its fragments spread."""

    depth: int
    fields: int
    aliases: int
    cost: int

    def beside(self, other: "Weight") -> "Weight":
        """Both, one beside the other."""
        return Weight(
            max(self.depth, other.depth),
            min(MOST, self.fields + other.fields),
            min(MOST, self.aliases + other.aliases),
            min(MOST, self.cost + other.cost),
        )


NOTHING: Final = Weight(0, 0, 0, 0)


class Operation:
    """One operation of a document."""

    __slots__ = ("_document", "_node", "_weight", "defaults", "hint", "kind", "name", "variables")

    def __init__(self, document: "Document", node: OperationDefinitionNode) -> None:
        self._document = document
        self._node = node
        self._weight: Weight | None = None
        self.name = node.name.value if node.name else ""
        self.kind = node.operation.value
        """query, mutation or subscription."""
        self.variables = frozenset(each.variable.name.value for each in node.variable_definitions or ())
        self.defaults = {
            each.variable.name.value: int(each.default_value.value)
            for each in node.variable_definitions or ()
            if isinstance(each.default_value, IntValueNode)
        }
        self.hint = _hint(node)

    def weight(self, variables: Mapping[str, Any]) -> Weight:
        """What it contains with these variables. Raises QueryError for fragments that are missing or spread
        themselves."""
        if self._weight is not None:
            return self._weight
        scale = _Scale(self._document.fragments, {**self.defaults, **variables})
        weight = scale.of(self._node.selection_set)
        if not scale.by_variables:
            self._weight = weight
        return weight

    def __repr__(self) -> str:
        return f"<Operation {self.kind} {self.name}>"


class Document:
    """A document that was read. Never changed."""

    __slots__ = ("digest", "fragments", "operations")

    def __init__(self, node: DocumentNode) -> None:
        self.fragments: dict[str, FragmentDefinitionNode] = {}
        operations: list[OperationDefinitionNode] = []
        for each in node.definitions:
            if isinstance(each, FragmentDefinitionNode):
                if each.name.value in self.fragments:
                    raise QueryError("two fragments have the same name")
                self.fragments[each.name.value] = each
            elif isinstance(each, OperationDefinitionNode):
                operations.append(each)
            else:
                raise QueryError("the document defines types, and is no request")
        self.operations = {(each.name.value if each.name else ""): Operation(self, each) for each in operations}
        if len(self.operations) != len(operations):
            raise QueryError("two operations have the same name")
        if not operations:
            raise QueryError("the document has no operation")
        self.digest = sha256(print_ast(node).encode("utf-8", "surrogatepass")).digest()

    def operation(self, name: str) -> Operation | None:
        """The operation that is meant: by its name, or the only one there is."""
        if name:
            return self.operations.get(name)
        return next(iter(self.operations.values())) if len(self.operations) == 1 else None

    def __repr__(self) -> str:
        return f"<Document {len(self.operations)} operations>"


def read(text: str, tokens: int) -> Document:
    """Read a document of at most so many tokens. Raises QueryError."""
    try:
        return Document(parse(Source(text), no_location=True, max_tokens=tokens))
    except GraphQLSyntaxError as error:
        if "token limit" in error.message or "more than" in error.message:
            raise QueryError(f"the document has more than {tokens} tokens") from error
        raise QueryError("the document breaks GraphQL's syntax") from error
    except GraphQLError as error:
        raise QueryError("the document breaks GraphQL's syntax") from error
    except RecursionError as error:
        raise QueryError("the document is nested too deeply") from error


def read_all(texts: Sequence[str], tokens: int) -> list[Document | str]:
    """Read several, and weigh them as far as variables do not matter; of one that cannot be read, why. In a thread or
    not."""
    found: list[Document | str] = []
    for text in texts:
        try:
            document = read(text, tokens)
        except QueryError as error:
            found.append(str(error))
            continue
        for operation in document.operations.values():
            with suppress(QueryError):  # it is said again of the one that is asked for
                operation.weight({})
        found.append(document)
    return found


class _Scale:
    """Weighs selections of one document."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]) -> None:
        self._fragments = fragments
        self._variables = variables
        self._known: dict[str, Weight | None] = {}
        self.by_variables = False
        """Whether the cost depends on the variables."""

    def of(self, selections: SelectionSetNode | None) -> Weight:
        total = NOTHING
        try:
            for each in selections.selections if selections else ():
                total = total.beside(self._of_one(each))
        except RecursionError as error:
            raise QueryError("the document is nested too deeply") from error
        return total

    def _of_one(self, node: SelectionNode) -> Weight:
        if isinstance(node, FieldNode):
            below = self.of(node.selection_set)
            return Weight(
                below.depth + 1,
                min(MOST, below.fields + 1),
                min(MOST, below.aliases + (node.alias is not None)),
                min(MOST, self._size(node) * (below.cost + 1)),
            )
        if isinstance(node, InlineFragmentNode):
            return self.of(node.selection_set)
        assert isinstance(node, FragmentSpreadNode)  # noqa: S101 - the grammar has no fourth
        return self._of_fragment(node.name.value)

    def _of_fragment(self, name: str) -> Weight:
        if name in self._known:
            known = self._known[name]
            if known is None:
                raise QueryError("a fragment spreads itself")
            return known
        fragment = self._fragments.get(name)
        if fragment is None:
            raise QueryError("a fragment that is spread is not defined")
        self._known[name] = None
        weight = self._known[name] = self.of(fragment.selection_set)
        return weight

    def _size(self, node: FieldNode) -> int:
        size = 1
        for argument in node.arguments or ():
            if argument.name.value in _SIZES:
                size = max(size, self._number(argument.value))
        return size

    def _number(self, value: object) -> int:
        if isinstance(value, IntValueNode):
            return min(MOST, int(value.value)) if len(value.value) <= 10 else MOST
        if isinstance(value, VariableNode):
            self.by_variables = True
            given = self._variables.get(value.name.value)
            if isinstance(given, float) and given == given:  # noqa: PLR0124 - not NaN
                given = int(min(float(MOST), max(-1.0, given)))
            return min(MOST, given) if isinstance(given, int) else 1
        return 1


def _hint(node: OperationDefinitionNode) -> Hint | None:
    """Of several directives, and of those on fields, the strictest counts."""
    found: list[Hint] = []
    for directive in _directives(node):
        seconds, private = None, False
        for argument in directive.arguments or ():
            if argument.name.value == "maxAge" and isinstance(argument.value, IntValueNode):
                seconds = max(0, int(argument.value.value[:9]))
            elif argument.name.value == "scope" and isinstance(argument.value, EnumValueNode):
                private = private or argument.value.value != "PUBLIC"
        found.append(Hint(seconds, private))
    if not found:
        return None
    limits = [each.seconds for each in found if each.seconds is not None]
    return Hint(min(limits) if limits else None, any(each.private for each in found))


def _directives(node: OperationDefinitionNode) -> list[DirectiveNode]:
    return [each for each in node.directives or () if each.name.value == "cacheControl"]
