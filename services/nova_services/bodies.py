"""Bodies, ids and pages, read and written the same way by all services.

    given = await read(request, Credentials)            # 400 with field and rule
    post = identifier(request, "id")                    # of the path
    asked = query(request, Question)                    # ?q=&kind=, likewise
    page = bodies.page(request)                         # ?pageSize=&pageToken=
    rows = await posts.of(author, page.size + 1, page.after(Place))
    found, following = page.cut(rows, lambda row: Place(row.created_at, row.post_id))
    return answer(Posts(found, following))

A page is asked for one row longer than it is, so that the token of the next one is there only if that page is. A token
says after which row to go on; readers take it as it is, so its content may change with any version.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from nova_services.errors import InvalidError

T = TypeVar("T")
DEFAULT_SIZE: Final = 20
LARGEST_SIZE: Final = 100
BROKEN: Final = (ConnectionError, web.RequestPayloadError)
"""Of a body that breaks off, or is not compressed or cut into chunks as it says: the client's, and no store's."""
_encode: Final = msgspec.json.Encoder().encode
_decoders: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


class Place(NamedTuple):
    """Where a list that is ordered by time goes on: after this row."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: UUID


class Page(NamedTuple):
    """Which part of a list: `size` rows from 1; `token` as the page before gave it, empty for the first."""

    size: int
    token: str

    def after(self, kind: type[T]) -> T | None:
        """The row to go on after, None at the beginning. Raises InvalidError for a token that nobody gave out."""
        if not self.token:
            return None
        try:
            content = urlsafe_b64decode(self.token + "=" * (-len(self.token) % 4))
            return _comparable(msgspec.json.decode(content, type=kind))
        except (ValueError, OverflowError, msgspec.DecodeError):
            raise InvalidError("pageToken", "what the page before gave") from None

    def cut(self, rows: Sequence[T], place: Callable[[T], Any]) -> tuple[list[T], str]:
        """The page, and the token of the next one, empty at the end; `rows` are one more than the page has."""
        kept = list(rows[: self.size])
        return kept, token(place(kept[-1])) if len(rows) > self.size else ""


def _comparable(place: T) -> T:
    """A place that PostgreSQL can look for. Raises ValueError or OverflowError for a number that is no bigint, and for
    a time that UTC has not within the years 1 to 9999."""
    if isinstance(place, int) and not -(2**63) <= place < 2**63:
        raise ValueError("no bigint")
    if isinstance(place, Place):
        place.at.astimezone(UTC)
    return place


def token(place: Any) -> str:
    """Of a place: anything that JSON can express, such as a tuple."""
    return urlsafe_b64encode(_encode(place)).rstrip(b"=").decode()


def page(request: web.Request) -> Page:
    """What a request by HTTP asks for. Raises InvalidError."""
    text = request.query.get("pageSize", str(DEFAULT_SIZE))
    size = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    return paged(size or -1, request.query.get("pageToken", ""), field="pageSize")


def paged(size: int, given: str, *, largest: int = LARGEST_SIZE, field: str = "page_size") -> Page:
    """What a call by gRPC asks for: there a size of 0 stands for the usual one. Raises InvalidError."""
    if not 0 <= size <= largest:
        raise InvalidError(field, f"1 to {largest}")
    return Page(size or DEFAULT_SIZE, given)


def uuid(field: str, text: str) -> UUID:
    """An id. Raises InvalidError naming the field."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidError(field, "a UUID") from None


def uuids(field: str, texts: Sequence[str], most: int) -> list[UUID]:
    """Ids of one call by gRPC, from 1 to `most`. Raises InvalidError naming the field."""
    if not 1 <= len(texts) <= most:
        raise InvalidError(field, f"1 to {most} UUIDs")
    return [uuid(field, text) for text in texts]


def identifier(request: web.Request, name: str = "id") -> UUID:
    """An id in the path. Raises InvalidError."""
    return uuid(name, request.match_info[name])


async def read(request: web.Request, kind: type[T]) -> T:
    """The body. Raises 400 with field and rule, and nothing of what was sent."""
    decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        found: T = decoder.decode(await request.read())
    except BROKEN:
        raise InvalidError("body", "all of it, as its headers say") from None
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(body=_encode({"error": str(error)}), content_type="application/json") from None
    except RecursionError:
        raise InvalidError("body", "JSON with fewer lists and objects in each other") from None
    return found


def query(request: web.Request, kind: type[T]) -> T:
    """The parameters of the URL, as a Struct; those of others are passed over. Raises 400 with field and rule."""
    names = [name for name, _ in request.query.items()]
    if len(set(names)) != len(names):
        raise InvalidError("parameters", "each once")
    try:
        return msgspec.convert(dict(request.query), kind, strict=False)
    except msgspec.ValidationError as error:
        raise web.HTTPBadRequest(body=_encode({"error": str(error)}), content_type="application/json") from None


def answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A struct as JSON."""
    return web.Response(body=_encode(content), status=status, headers=headers, content_type="application/json")
