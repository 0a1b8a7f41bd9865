"""Which posts are recommended, in which order. No I/O, no clock.

A post is worth what its author is to the user, and halves every two days:

    (3 * people whom the user follows and who follow the author + ln(1 + followers of the author)) * 0.5^(age / 2 d)

So who follows nobody gets what many follow, and everybody else mostly what those they follow do. An author has three
posts at most, since ten of the most popular one are no recommendation.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import log1p
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

HALF_LIFE: Final = 2 * 86400.0
OLDEST: Final = 14 * 86400.0
"""Seconds; what is older is not looked at: it would be worth less than a hundredth."""
MOST: Final = 50
OF_ONE_AUTHOR: Final = 3
_COMMON: Final = 3.0


class Recommended(msgspec.Struct, frozen=True, rename="camel"):
    """A post that is recommended."""

    post_id: UUID
    author_id: UUID
    created_at: datetime


class Author(NamedTuple):
    """What an author is to the user."""

    common: int = 0
    followers: int = 0

    @property
    def worth(self) -> float:
        """See the module."""
        return _COMMON * self.common + log1p(self.followers)


class Candidate(NamedTuple):
    """A post that could be recommended; `created` in seconds since 1970."""

    post: UUID
    author: UUID
    created: int


def ranked(candidates: Iterable[Candidate], authors: Mapping[UUID, Author], now: float) -> list[Recommended]:
    """The best ones first; `now` in seconds since 1970. Of two that are worth the same the newer one comes first."""

    def worth(one: Candidate) -> tuple[float, int, UUID]:
        age = max(0.0, now - one.created)
        return authors[one.author].worth * 0.5 ** (age / HALF_LIFE), one.created, one.post

    taken: Counter[UUID] = Counter()
    found: list[Recommended] = []
    for one in sorted((each for each in candidates if each.author in authors), key=worth, reverse=True):
        if len(found) == MOST:
            break
        if taken[one.author] < OF_ONE_AUTHOR:
            taken[one.author] += 1
            found.append(Recommended(one.post, one.author, datetime.fromtimestamp(one.created, UTC)))
    return found
