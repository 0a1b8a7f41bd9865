"""What is counted of content: what people do here, which is what the business asks for."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from nova_services.content.forms import KEPT, Visibility

_CHANGES: Final = ("created", "deleted")


class ContentMetrics:
    """`nova_content_*`; every series is there with zero, and no label says who."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nova_content_{name}", text, labels, registry=registry)

        self._posts = counter("posts", "Posts that were written.", "visibility")
        self._deleted = counter("posts_deleted", "Posts that their authors deleted.")
        self._comments = counter("comments", "Comments that were written, and deleted.", "change")
        self._follows = counter("follows", "Follows that began, and ended.", "change")
        self._pages = counter("feed_pages", "Pages of feeds that were read, the first ones and later ones.", "page")
        self._refused = counter("blocked", "Comments and follows that a block refused.")
        self._unknown = counter("blocks_unknown", "Questions for a block that users did not answer.")
        self._erased = counter("users_erased", "People whose content was removed for good.")
        self._erasing = Gauge(
            "nova_content_erasures_due", "People whose content is still to be removed.", registry=registry
        )
        for visibility in KEPT.values():
            self._posts.labels(visibility)
        for change in _CHANGES:
            self._comments.labels(change)
            self._follows.labels(change)
        for page in ("first", "later"):
            self._pages.labels(page)

    def posted(self, visibility: Visibility) -> None:
        """A post was written."""
        self._posts.labels(KEPT[visibility]).inc()

    def post_deleted(self) -> None:
        """Its author deleted it."""
        self._deleted.inc()

    def comment(self, change: str) -> None:
        """One was `created` or `deleted`."""
        self._comments.labels(change).inc()

    def follow(self, change: str) -> None:
        """One was `created` or `deleted`."""
        self._follows.labels(change).inc()

    def read_feed(self, *, first: bool) -> None:
        """A page of a feed was read."""
        self._pages.labels("first" if first else "later").inc()

    def blocked(self) -> None:
        """A block refused something."""
        self._refused.inc()

    def unknown_blocks(self) -> None:
        """users did not answer."""
        self._unknown.inc()

    def erased(self) -> None:
        """Somebody's content is gone."""
        self._erased.inc()

    def erasing(self, due: int) -> None:
        """So many are still to be erased."""
        self._erasing.set(due)
