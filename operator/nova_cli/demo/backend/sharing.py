"""Posts: written, followed, found, shown with their authors, and deleted."""

import uuid
from typing import Any, Final
from urllib.parse import quote

from nova_cli.demo.backend.stage import Answer, Backend, Person, after, seconds_until
from nova_cli.demo.claim import Verdict
from nova_cli.errors import CommandError

_POST_WITH_AUTHOR: Final = "query($id: UUID!) { post(id: $id) { text author { displayName } } }"


def post(backend: Backend) -> Verdict:
    """Ben follows Anna; what Anna writes then is in Ben's feed at once, and Anna is told that Ben follows."""
    anna, ben = backend.person("anna"), backend.person("ben")
    followed = backend.ask("PUT", "content", f"/follows/{anna.user}", by=ben)
    written, word = write(backend, anna)
    seen = seconds_until(lambda: word in feed(backend, ben))
    told = seconds_until(lambda: _is_told(backend, anna, "FOLLOWED", ben))
    figures = (
        f"followed: {followed.status} in {followed.milliseconds:.0f} ms; written in {written.milliseconds:.0f} ms;"
        f" in the follower's feed {after(seen)}; the other one was notified {after(told)}"
    )
    return Verdict(followed.status == 204 and seen is not None and told is not None, figures)


def search(backend: Backend) -> Verdict:
    """A post is found by a word of it, and its author by the name."""
    anna, ben = backend.person("anna"), backend.person("ben")
    name = f"Anna {new_word()}"
    named = backend.ask("PATCH", "users", "/profiles/me", by=anna, body={"displayName": name})
    _, word = write(backend, anna)
    found = seconds_until(lambda: finds(backend, ben, word, "posts") == [anna.user])
    people = seconds_until(lambda: finds(backend, ben, name, "people") == [anna.user])
    none = finds(backend, ben, new_word(), "posts")
    figures = (
        f"the post was found {after(found)}, its author by the name {after(people)} after the change of the profile"
        f" ({named.status}); a word that nobody wrote finds {len(none)}"
    )
    return Verdict(found is not None and people is not None and not none and named.status == 200, figures)


def graphql(backend: Backend) -> Verdict:
    """One question gets a post and the author's name, which two services have."""
    anna, ben = backend.person("anna"), backend.person("ben")
    name = f"Anna {new_word()}"
    backend.ask("PATCH", "users", "/profiles/me", by=anna, body={"displayName": name})
    written, word = write(backend, anna)
    asked = {"query": _POST_WITH_AUTHOR, "variables": {"id": written.body["postId"]}}
    answer = backend.ask("POST", "graphql", "/graphql", by=ben, body=asked)
    data = (answer.body.get("data") or {}) if isinstance(answer.body, dict) else {}
    got = data.get("post") or {}
    right = word in got.get("text", "") and (got.get("author") or {}).get("displayName") == name
    figures = f"text and author in one answer of {answer.milliseconds:.0f} ms: "
    figures += "yes" if right else f"NO: {answer.status} {str(answer.body)[:300]}"
    return Verdict(right and answer.status == 200, figures)


def delete(backend: Backend) -> Verdict:
    """A post that was in a feed and found is deleted: neither has it, and nobody can read it."""
    anna, ben = backend.person("anna"), backend.person("ben")
    backend.ask("PUT", "content", f"/follows/{anna.user}", by=ben)
    written, word = write(backend, anna)
    path = f"/posts/{written.body['postId']}"
    there = seconds_until(lambda: word in feed(backend, ben) and bool(finds(backend, ben, word, "posts")))
    by_ben = backend.ask("DELETE", "content", path, by=ben).status
    gone = backend.ask("DELETE", "content", path, by=anna)
    read = backend.ask("GET", "content", path, by=ben).status
    from_feed = seconds_until(lambda: word not in feed(backend, ben))
    from_search = seconds_until(lambda: not finds(backend, ben, word, "posts"))
    figures = (
        f"there {after(there)}; deleted by another one: {by_ben}, by its author: {gone.status} in"
        f" {gone.milliseconds:.0f} ms; read: {read}; gone from the feed {after(from_feed)}, from the search"
        f" {after(from_search)}"
    )
    held = None not in (there, from_feed, from_search)
    return Verdict(held and by_ben == 404 and gone.status == 204 and read == 404, figures)


# ---- what other claims do, too


def write(backend: Backend, author: Person) -> tuple[Answer, str]:
    """A new post, and a word that no other one has. Raises CommandError where it is refused."""
    word = new_word()
    written = backend.ask("POST", "content", "/posts", by=author, body={"text": f"Hello from {word}"})
    if written.status != 201:
        raise CommandError(f"a post was not taken: {written.status} {str(written.body)[:200]}")
    return written, word


def new_word() -> str:
    """A word that nobody has used."""
    return "w" + "".join(chr(ord("a") + int(digit, 16)) for digit in uuid.uuid4().hex[:12])


def feed(backend: Backend, reader: Person) -> str:
    """The texts of somebody's feed."""
    return _texts(backend.ask("GET", "content", "/feed", by=reader))


def _texts(answer: Answer) -> str:
    return " ".join(one["text"] for one in answer.body["posts"]) if answer.status == 200 else ""


def finds(backend: Backend, reader: Person, words: str, kind: str) -> list[str]:
    """Who wrote the posts that are found, or who the people are."""
    answer = backend.ask("GET", "search", f"/search?q={quote(words)}&kind={kind}", by=reader)
    if answer.status != 200:
        raise CommandError(f"the search answered {answer.status}: {str(answer.body)[:200]}")
    return [one["authorId" if kind == "posts" else "userId"] for one in answer.body[kind]]


def _is_told(backend: Backend, reader: Person, kind: str, actor: Person) -> bool:
    """Whether somebody has a notification of a kind that another one caused."""
    answer = backend.ask("GET", "notification", "/notifications", by=reader)
    found: list[dict[str, Any]] = answer.body["notifications"] if answer.status == 200 else []
    return any(one["kind"].endswith(kind) and one.get("actorId") == actor.user for one in found)
