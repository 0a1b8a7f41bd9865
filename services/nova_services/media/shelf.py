"""Where the content lies: a folder, or a bucket of S3, by the same few calls (the library obstore).

    shelf = opened("/media")                       # a folder that all pods share
    shelf = opened("s3://pictures/media")          # with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and
                                                   # AWS_ENDPOINT for another one than Amazon's

A name is there with all of its content or not at all: a file is written beside its place and renamed, an object of S3
appears when its last part does.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from nova_services.errors import UnavailableError

CHUNK: Final = 256 * 1024
"""Bytes that are read at once."""
_LISTED: Final = 500
_TIMEOUT: Final = "15s"
"""For one request to S3, a file of 10 MiB included."""
_CONNECT: Final = "2s"
_RETRIES: Final[Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


class Shelf:
    """See the module. Raises UnavailableError where the store does not do what it is asked for."""

    def __init__(self, store: Any, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put(self, media: UUID, content: AsyncIterator[bytes]) -> None:
        """Keep content; where `content` raises, nothing is kept, and the same is raised here."""
        try:
            await obstore.put_async(self._store, _name(media), content, max_concurrency=2)
        except (BaseError, OSError) as error:
            raise UnavailableError("the store of contents") from error

    async def get(self, media: UUID) -> AsyncIterator[bytes] | None:
        """The content, a chunk at a time; None where there is none."""
        try:
            found = await obstore.get_async(self._store, _name(media))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise UnavailableError("the store of contents") from error
        return _chunks(found.stream(min_chunk_size=CHUNK))

    async def remove(self, media: UUID) -> None:
        """Remove content for good, if it is there."""
        try:
            await obstore.delete_async(self._store, _name(media))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise UnavailableError("the store of contents") from error

    async def listed(self) -> AsyncIterator[list[tuple[UUID, datetime]]]:
        """All that is there and when it came, some at a time; what others put there is passed over."""
        try:
            async for some in obstore.list(self._store, chunk_size=_LISTED):
                named = ((_media(one["path"]), one["last_modified"]) for one in some)
                yield [(media, at) for media, at in named if media is not None]
        except (BaseError, OSError) as error:
            raise UnavailableError("the store of contents") from error

    async def tidy(self, before: datetime) -> int:
        """Remove what uploads of processes that died have left beside a name since before then; how much that was. What
        lies so in a bucket is no object: a lifecycle rule of the bucket ends uploads that were not completed."""
        if self._folder is None:
            return 0
        try:
            return await asyncio.to_thread(_remove_begun, self._folder, before.timestamp())
        except OSError as error:
            raise UnavailableError("the store of contents") from error

    def __repr__(self) -> str:
        return f"<Shelf {type(self._store).__name__}>"


def opened(place: str) -> Shelf:
    """A folder, or a URL of S3. Raises ValueError naming what is wrong, OSError for a folder that cannot be made."""
    if "://" not in place:
        folder = Path(place).resolve()
        return Shelf(LocalStore(folder, mkdir=True), folder)
    if not place.startswith("s3://"):
        raise ValueError("--store: expected a folder, or s3://bucket/folder")
    try:
        # options that are given here take the place of those that the library reads itself
        allow_http = os.environ.get("AWS_ALLOW_HTTP") == "true"
        options: Any = {"timeout": _TIMEOUT, "connect_timeout": _CONNECT, "allow_http": allow_http}
        return Shelf(from_url(place, client_options=options, retry_config=_RETRIES))
    except BaseError as error:
        raise ValueError(
            f"--store: {type(error).__name__}; AWS_REGION and the like are read from the environment"
        ) from None


async def _chunks(stream: Any) -> AsyncIterator[bytes]:
    try:
        async for chunk in stream:
            yield bytes(chunk)
    except BaseError as error:
        raise UnavailableError("the store of contents") from error


def _remove_begun(folder: Path, before: float) -> int:
    """While it is written, the content of a name is in a file with `#` and a number behind the name."""
    removed = 0
    for file in folder.glob("*/*#*"):
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < before:
                file.unlink()
                removed += 1
    return removed


def _name(media: UUID) -> str:
    """Spread over 256 folders."""
    return f"{media.hex[:2]}/{media}"


def _media(name: str) -> UUID | None:
    try:
        media = UUID(name.rpartition("/")[2])
    except ValueError:
        return None
    return media if name == _name(media) else None
