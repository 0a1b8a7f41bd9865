"""How long a stored response may be used, and what has to be done when it may not (RFC 9111 section 4).

    stored ── fresh ──▶ used
       └───── stale ──▶ used, and asked for anew behind the client's back   (stale-while-revalidate, RFC 5861 section 3)
                  ├───▶ asked for anew; the stored one when the app fails   (stale-if-error, RFC 5861 section 4)
                  └───▶ asked for anew

Rules:

* Freshness is what the response says: s-maxage, else max-age, else Expires. Nothing is guessed (section 4.2.2 would
  allow it): an app that says nothing about caching is not cached.
* What must be revalidated never goes out stale, whatever a policy or a request allows (section 5.2.2.2).
* A request may ask for something fresher than the policy would give, and be given it (section 5.2.1).

Ages are taken by the monotonic clock from when the response came, plus the age that it had then (section 4.2.3).
"""

from enum import StrEnum
from typing import Final, NamedTuple

ENTRY_COST: Final = 700
"""Bytes that an entry takes beside head, body and key: objects and tables."""


class Verdict(StrEnum):
    """What to do with a stored response."""

    FRESH = "fresh"  # use it
    REFRESH = "refresh"  # use it, and ask the app behind the client's back
    REVALIDATE = "revalidate"  # ask the app first


class Terms(NamedTuple):
    """What a response says about its use. Seconds."""

    lifetime: float
    """It is fresh for so long after it was made."""
    while_revalidate: float
    """It may be used for so long after that while it is asked for anew."""
    if_error: float
    """It may be used for so long after its lifetime where the app fails."""
    always_ask: bool
    """no-cache: it is never used unasked."""


class Wish(NamedTuple):
    """What a request says about its answer. Seconds."""

    age: float
    """It must not be older."""
    fresh_for: float
    """It must stay fresh for so long."""
    stale_for: float
    """It may have been stale for so long."""
    ask: bool
    """no-cache: ask the app."""


class Stored:
    """A response as it is kept. Never changed, but for its times and its head, by a revalidation."""

    __slots__ = (
        "age", "at", "body", "etag", "head", "key", "modified", "refreshing", "size", "spare_until", "status", "target",
        "terms",
    )  # fmt: skip

    def __init__(
        self, key: bytes, target: bytes, status: int, head: bytes, body: bytes, *, at: float, age: float, terms: Terms,
        etag: bytes = b"", modified: bytes = b"",
    ) -> None:  # fmt: skip
        self.key = key
        """What it answers: see `wire.storing`."""
        self.target = target
        """Path and query, by which it can be invalidated."""
        self.status = status
        self.head = head
        """Status line and end-to-end fields, each line with its CRLF, without those that say its length and age."""
        self.body = body
        self.at = at
        """When it came, or was last found valid; monotonic seconds."""
        self.age = age
        """How old it was then, seconds."""
        self.terms = terms
        self.etag = etag
        """Its validator, b"" without one (RFC 9110 section 8.8.3)."""
        self.modified = modified
        """Its Last-Modified, b"" without one."""
        self.refreshing = False
        """Whether the app is being asked for it behind a client's back."""
        self.spare_until = 0.0
        """Until when the app is not asked for it again, since it failed; monotonic seconds."""
        self.size = len(key) + len(target) + len(head) + len(body) + ENTRY_COST

    def age_at(self, now: float) -> float:
        """Its current age, seconds."""
        return self.age + max(0.0, now - self.at)

    @property
    def asks_with(self) -> bool:
        """Whether the app can be asked whether it still holds, rather than for all of it."""
        return bool(self.etag or self.modified)

    def useful_until(self) -> float:
        """The instant after which it is of no use without being asked for anew, monotonic seconds."""
        terms = self.terms
        return self.at - self.age + terms.lifetime + max(terms.while_revalidate, terms.if_error)

    def __repr__(self) -> str:
        return f"<Stored {self.status} {len(self.body)} bytes at {self.at}>"


_NO_WISH: Final = Wish(-1.0, 0.0, 0.0, ask=False)


def no_wish() -> Wish:
    """Of a request that says nothing."""
    return _NO_WISH


def judge(stored: Stored, wish: Wish, now: float) -> Verdict:  # noqa: PLR0911 - a line for each rule
    """Whether a stored response may answer this request now."""
    terms = stored.terms
    if terms.always_ask or wish.ask:
        return Verdict.REVALIDATE
    age = stored.age_at(now)
    if 0 <= wish.age < age or age + wish.fresh_for > terms.lifetime > age:
        return Verdict.REVALIDATE
    if age < terms.lifetime:
        return Verdict.FRESH
    if wish.fresh_for > 0:
        return Verdict.REVALIDATE
    overdue = age - terms.lifetime
    if overdue < terms.while_revalidate:
        return Verdict.REFRESH
    if overdue < wish.stale_for and terms.if_error >= 0:
        return Verdict.FRESH
    return Verdict.REVALIDATE


def stands_in(stored: Stored, now: float) -> bool:
    """Whether it may be used because the app fails."""
    terms = stored.terms
    return not terms.always_ask and stored.age_at(now) < terms.lifetime + terms.if_error
