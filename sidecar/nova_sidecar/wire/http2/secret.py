"""A kind of bytes, in a module of its own since mypyc compiles no class that extends them."""


class Secret(bytes):
    """A value that came as a literal never to be indexed, and must go on as one (RFC 7541 section 6.2.3).

    Equal only to its like, so that a remembered block never gives the secret away.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is Secret and bytes.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return ~bytes.__hash__(self)
