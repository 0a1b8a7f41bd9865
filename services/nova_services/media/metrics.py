"""What is counted of media: what people upload, read and delete; no label says who."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from nova_services.media.kinds import KINDS

_REFUSED: Final = (400, 413, 415)


class MediaMetrics:
    """`nova_media_*`; every series is there with zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._uploads = Counter("nova_media_uploads", "Files that were uploaded.", ("kind",), registry=registry)
        self._bytes = Counter("nova_media_uploaded_bytes", "Their bytes.", registry=registry)
        self._refused = Counter("nova_media_refused", "Bodies that were not kept.", ("status",), registry=registry)
        self.reads = Counter("nova_media_reads", "Contents that were read.", registry=registry)
        self.deletions = Counter("nova_media_deletions", "Files that their owners deleted.", registry=registry)
        self.swept = Counter("nova_media_swept", "Contents without a row that were removed.", registry=registry)
        for kind in KINDS:
            self._uploads.labels(kind)
        for status in _REFUSED:
            self._refused.labels(str(status))

    def uploaded(self, kind: str, size: int) -> None:
        """A file of so many bytes was kept."""
        self._uploads.labels(kind).inc()
        self._bytes.inc(size)

    def refused(self, status: int) -> None:
        """One was not."""
        self._refused.labels(str(status)).inc()
