"""A picture that is its owner's alone until the owner shows it, and what is recommended where nothing was computed."""

from typing import Any, Final

from nova_cli.demo.backend.sharing import new_word, write
from nova_cli.demo.backend.stage import Answer, Backend, Person, after, seconds_until
from nova_cli.demo.claim import Verdict
from nova_cli.errors import CommandError

_GIF: Final = "image/gif"


def media(backend: Backend) -> Verdict:
    """Ben sees Anna's picture while she shows it, neither before nor after; and is recommended what there is."""
    anna, ben = backend.person("anna"), backend.person("ben")
    picture, word = upload(backend, anna)
    path = f"/media/{picture['mediaId']}"
    private = _reads(backend, anna, path, word), _reads(backend, ben, path, word)
    shown = _shown(backend, anna, path, "VISIBILITY_PUBLIC").status
    public = _reads(backend, ben, path, word)
    by_ben = backend.ask("DELETE", "media", path, by=ben).status
    _shown(backend, anna, path, "VISIBILITY_PRIVATE")
    hidden = _reads(backend, ben, path, word)
    recommended, source = _recommended(backend, anna, ben)
    figures = (
        f"private: its owner gets {private[0]}, another one {private[1]}; shown ({shown}): {public}; hidden again:"
        f" {hidden}; deleted by another one: {by_ben}; a recommendation came {after(recommended)}, {source}"
    )
    seen = private == (200, 404) and (shown, public, by_ben, hidden) == (200, 200, 404, 404)
    return Verdict(seen and recommended is not None, figures)


def upload(backend: Backend, owner: Person) -> tuple[dict[str, Any], str]:
    """A picture of somebody's, private as all are, and a word in it. Raises CommandError where it is refused."""
    word = new_word()
    answer = backend.ask("POST", "media", "/media", by=owner, body=f"GIF89a {word}", kind=_GIF)
    if answer.status != 201:
        raise CommandError(f"a picture was not taken: {answer.status} {str(answer.body)[:200]}")
    return answer.body, word


def _reads(backend: Backend, reader: Person, path: str, word: str) -> int:
    """The status with which a picture is read; 200 only where it is this one."""
    answer = backend.ask("GET", "media", f"{path}/content", by=reader)
    if answer.status == 200 and word not in str(answer.body):
        raise CommandError(f"another picture than was uploaded: {str(answer.body)[:100]}")
    return answer.status


def _shown(backend: Backend, owner: Person, path: str, visibility: str) -> Answer:
    return backend.ask("PATCH", "media", path, by=owner, body={"visibility": visibility})


def _recommended(backend: Backend, author: Person, reader: Person) -> tuple[float | None, str]:
    """Seconds until somebody was recommended something, and where it is from. The image has no analytics, so that is
    the feed, with what a followed one has just written; with analytics it is what was computed."""
    backend.ask("PUT", "content", f"/follows/{author.user}", by=reader)
    post = write(backend, author)[0].body["postId"]
    source = "from nowhere"

    def there() -> bool:
        nonlocal source
        answer = backend.ask("GET", "recommendations", "/recommendations", by=reader)
        if answer.status != 200:
            return False
        source = {"PRECOMPUTED": "computed ahead"}.get(answer.body["source"], "from the feed, without analytics")
        return answer.body["source"] == "PRECOMPUTED" or post in [one["postId"] for one in answer.body["posts"]]

    return seconds_until(there), source
