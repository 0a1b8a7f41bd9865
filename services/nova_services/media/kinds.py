"""What a file is, by its first bytes. No I/O.

What the client calls it is a claim, and what a browser makes of it is another: a file that is a picture for us and a
page with a script for a browser would run in the readers' name. So only these kinds are kept, each told by its
signature, and they are served under the name that we found, which browsers are told to believe
(`x-content-type-options: nosniff`).
"""

from typing import Final

ENOUGH: Final = 12
"""Bytes from which on a file's kind can be told."""
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
GIF: Final = "image/gif"
WEBP: Final = "image/webp"
MP4: Final = "video/mp4"
KINDS: Final = (PNG, JPEG, GIF, WEBP, MP4)


def kind(head: bytes) -> str | None:
    """The media type of a file that begins so; None where it is none of those that are kept.

    PNG: RFC 2083 section 3.1. JPEG: ITU T.81 annex B, marker SOI. GIF: version 89a section 17. WebP: RFC 9649 section
    2.4. MP4: ISO 14496-12 section 4.3, a box `ftyp` at the beginning.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp" and len(head) >= ENOUGH:
        return MP4
    return None
