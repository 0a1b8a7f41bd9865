"""search as it runs in a pod: what a real Kafka tells it lies in a real PostgreSQL, and is found by its words."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from nova_data.pool.database import Database as Pool
from nova_services.search.documents import Erased, Person, Post
from nova_services.search.index import Index
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .process import Answer, Service, running
from .telling import Topics

MIGRATIONS = Path(__file__).resolve().parents[3] / "services/nova_services/search/migrations"
TOPICS = ("post", "profile", "user")
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def migrated(postgres: Postgres) -> Database:
    made = Database(postgres)
    done = made.command("migrate", MIGRATIONS)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = migrated(postgres)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def topics(kafka: Kafka) -> Topics:
    return Topics(kafka, "search", *TOPICS)


@pytest.fixture(scope="module")
def search(database: Database, topics: Topics) -> Iterator[Service]:
    words = (*topics.words(), "--metrics-port", "0")
    with running("search", *words, DATABASE_URL=database.url) as service:
        yield service


@pytest.fixture
def word() -> str:
    """One that no other test has."""
    return f"w{uuid.uuid4().hex}"


class Writer:
    """Somebody who writes; events are handled when these return."""

    def __init__(self, topics: Topics, search: Service) -> None:
        self._topics = topics
        self._search = search
        self.id = uuid.uuid4()

    def told(self, topic: str, kind: str, key: object, payload: dict[str, Any], *, event: str = "") -> None:
        identity = self._topics.tell(topic, kind, payload, key=key, event=event)
        self._search.line("event handled", correlation_id=identity)

    def post(self, text: str, *, at: int = 0, **fields: Any) -> str:
        """A post's id; `at` is in minutes after noon."""
        payload = self.payload(text, at=at, **fields)
        self.told("post", "post-created", payload["postId"], payload)
        return str(payload["postId"])

    def payload(self, text: str, *, at: int = 0, **fields: Any) -> dict[str, Any]:
        return {
            "postId": str(uuid.uuid4()),
            "authorId": str(self.id),
            "text": text,
            "visibility": "VISIBILITY_PUBLIC",
            "createdAt": (NOON + timedelta(minutes=at)).isoformat(),
            **fields,
        }

    def delete(self, post: str) -> None:
        self.told("post", "post-deleted", post, {"postId": post, "authorId": str(self.id)})

    def is_called(self, name: str, biography: str = "", **fields: Any) -> None:
        payload = {"userId": str(self.id), "displayName": name, "biography": biography, **fields}
        self.told("profile", "profile-changed", self.id, payload)

    def leave(self) -> None:
        self.told("user", "user-erased", self.id, {"userId": str(self.id)})


@pytest.fixture
def anna(topics: Topics, search: Service) -> Writer:
    return Writer(topics, search)


@pytest.fixture
def bert(topics: Topics, search: Service) -> Writer:
    return Writer(topics, search)


def ask(search: Service, **parameters: object) -> Answer:
    return search.call(f"/search?{urlencode(parameters)}")


def found(search: Service, words: str) -> list[str]:
    """Ids of posts, the best first."""
    answer = ask(search, q=words)
    assert answer.status == 200, answer.body
    return [post["postId"] for post in answer.body["posts"]]


def named(search: Service, words: str) -> list[str]:
    """Names of people, the best first."""
    return [person["displayName"] for person in ask(search, q=words, kind="people").body["people"]]


def test_a_post_is_found_by_its_words_as_everybody_may_see_it(search: Service, anna: Writer, word: str) -> None:
    post = anna.post(f"Green Tea, {word}!")
    anna.post(f"{word} for friends", visibility="VISIBILITY_FOLLOWERS")
    assert ask(search, q=f"{word.upper()} green").body == {
        "posts": [
            {
                "postId": post,
                "authorId": str(anna.id),
                "text": f"Green Tea, {word}!",
                "createdAt": "2026-11-01T12:00:00Z",
            }
        ],
        "people": [],
        "nextPageToken": "",
    }


def test_words_may_be_quoted_excluded_or_one_of_two(search: Service, anna: Writer, word: str) -> None:
    tea, cup = anna.post(f"{word} green tea"), anna.post(f"{word} tea in a green cup")
    assert found(search, f'{word} "green tea"') == [tea]
    assert found(search, f"{word} tea -cup") == [tea]
    assert set(found(search, f"{word} cup or {word} tea")) == {tea, cup}
    assert found(search, "!!! ((") == []


def test_the_best_comes_first_and_of_equals_the_newest(search: Service, anna: Writer, word: str) -> None:
    often = anna.post(f"{word} {word} {word}", at=1)
    once = [anna.post(f"{word} once", at=minute) for minute in (2, 4, 3)]
    assert found(search, word) == [often, once[1], once[2], once[0]]


def test_pages_have_each_hit_once_also_while_posts_come(search: Service, anna: Writer, word: str) -> None:
    posts = {anna.post(f"{word} " * (1 + n % 2), at=n // 2) for n in range(7)}
    seen: list[str] = []
    token = ""
    while True:
        page = ask(search, q=word, pageSize=2, pageToken=token).body
        seen += [post["postId"] for post in page["posts"]]
        if len(seen) == 2:
            anna.post(f"{word} {word} {word}")  # better than all of them: before the first page
        if not (token := page["nextPageToken"]):
            break
    assert len(seen) == len(posts)
    assert set(seen) == posts


def test_a_post_that_is_deleted_is_not_found_and_none_of_its_text_is_kept(
    search: Service, anna: Writer, database: Database, word: str
) -> None:
    post = anna.post(word)
    anna.delete(post)
    assert found(search, word) == []
    assert database.rows(f"SELECT author_id, text, words::text FROM posts WHERE id = '{post}'") == [(None, None, "")]


def test_a_post_that_is_deleted_before_it_comes_stays_away(search: Service, anna: Writer, word: str) -> None:
    late = anna.payload(word)
    anna.delete(late["postId"])
    anna.told("post", "post-created", late["postId"], late)
    assert found(search, word) == []


def test_an_event_that_comes_twice_has_its_effect_once(
    search: Service, anna: Writer, topics: Topics, word: str
) -> None:
    def indexed() -> float:
        return search.metric('nova_search_indexed_total{event="post-created"}')

    before, post = indexed(), anna.payload(word)
    event = topics.tell("post", "post-created", post, key=post["postId"])
    search.line("event handled", correlation_id=event, repeated=False)
    topics.tell("post", "post-created", post, key=post["postId"], event=event)
    search.line("event handled", correlation_id=event, repeated=True)
    assert indexed() == before + 1
    assert found(search, word) == [post["postId"]]


def test_people_are_found_by_name_before_biography(search: Service, anna: Writer, bert: Writer, word: str) -> None:
    bert.is_called("Bert", f"a friend of {word}")
    anna.is_called(f"Anna {word}")
    assert named(search, word) == [f"Anna {word}", "Bert"]
    anna.is_called("Anna")
    assert named(search, word) == ["Bert"]


def test_of_two_profiles_the_younger_one_stays(search: Service, anna: Writer, word: str) -> None:
    anna.is_called(f"New {word}", changedAt="2026-11-02T10:00:00Z")
    anna.is_called(f"Old {word}", changedAt="2026-11-01T10:00:00Z")
    assert named(search, word) == [f"New {word}"]


def test_nothing_is_left_of_who_was_erased_and_nothing_comes_back(
    search: Service, anna: Writer, bert: Writer, database: Database, word: str
) -> None:
    anna.post(word)
    anna.is_called(word)
    others = bert.post(word)
    anna.leave()
    anna.post(f"{word} again")
    anna.is_called(f"{word} again")
    assert (found(search, word), named(search, word)) == ([others], [])
    everything = database.rows("SELECT p::text FROM posts p UNION SELECT p::text FROM people p")
    assert str(anna.id) not in str(everything)


def test_a_post_and_an_erasure_at_the_same_time_leave_nothing(postgres: Postgres) -> None:
    database = migrated(postgres)

    async def main() -> None:
        async with Pool(database.url, name="race") as pool:
            index = Index(pool)

            async def take(change: Post | Person | Erased) -> None:
                async with pool.transaction() as connection:
                    await index.apply(connection, change, reference=str(uuid.uuid4()))

            for _ in range(25):
                user = uuid.uuid4()
                post = Post(uuid.uuid4(), user, "text", "VISIBILITY_PUBLIC", NOON)
                await asyncio.gather(take(post), take(Erased(user)), take(Person(user, "name", "", NOON)))

    asyncio.run(main())
    assert database.value("SELECT (SELECT count(*) FROM posts) + (SELECT count(*) FROM people)") == 0
    database.drop()


def test_an_index_that_is_emptied_is_filled_from_the_topics(kafka: Kafka, postgres: Postgres, word: str) -> None:
    database, topics = migrated(postgres), Topics(kafka, "search", *TOPICS)
    words = (*topics.words(), "--metrics-port", "0")
    with running("search", *words, DATABASE_URL=database.url) as search:
        anna, gone = Writer(topics, search), Writer(topics, search)
        kept, deleted = anna.post(word), anna.post(word)
        anna.delete(deleted)
        gone.post(word)
        gone.leave()
    database.sql("UPDATE posts SET author_id = NULL, text = NULL, created_at = NULL")  # as a mistake would
    emptying = [sys.executable, "-m", "nova_services", "search", *words, "--host", "127.0.0.1", "--rebuild"]
    subprocess.run(emptying, env=database.environment, check=True, timeout=20, capture_output=True)
    assert database.value("SELECT count(*) FROM posts") == 0
    for _ in range(100):
        post = anna.payload("nothing")
        topics.tell("post", "post-created", post, key=post["postId"])
    with running("search", *words, DATABASE_URL=database.url) as search:
        for _ in range(105):
            search.line("event handled", repeated=False)
        assert found(search, word) == [kept]
        assert search.metric("nova_consumer_outages_total") == 0  # it leaves connections for others, and has its own
    database.drop()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "`q`"),
        ({"q": ""}, "$.q"),
        ({"q": "a\0b"}, "$.q"),
        ({"q": "x" * 201}, "$.q"),
        ({"q": "x", "kind": "cats"}, "$.kind"),
        ({"q": "x", "pageSize": 0}, "$.pageSize"),
        ({"q": "x", "pageSize": 101}, "pageSize"),
        ({"q": "x", "pageToken": "eyJ9"}, "pageToken"),
    ],
)
def test_a_wrong_question_is_refused_with_field_and_rule(
    search: Service, parameters: dict[str, object], says: str
) -> None:
    answer = ask(search, **parameters)
    assert answer.status == 400
    assert says in answer.body["error"]


def test_a_parameter_that_comes_twice_is_refused(search: Service) -> None:
    assert search.call("/search?q=a&q=b").status == 400


def test_an_event_that_cannot_be_read_is_set_aside_and_the_next_one_is_taken(
    search: Service, anna: Writer, topics: Topics, word: str
) -> None:
    topics.tell("post", "post-created", {"postId": "x", "text": word}, key="x")
    series = f'nova_consumer_dead_lettered_total{{reason="rejected",topic="{topics.prefix}post"}}'
    eventually(lambda: search.metric(series) == 1, within=20)
    assert found(search, word) == []
    post = anna.post(word)
    assert found(search, word) == [post]


def test_it_counts_what_is_asked_and_what_in_vain(search: Service, anna: Writer, word: str) -> None:
    def counted() -> tuple[float, float]:
        return search.metric('nova_search_queries_total{kind="posts"}'), search.metric(
            'nova_search_empty_total{kind="posts"}'
        )

    queries, empty = counted()
    found(search, word)
    anna.post(word)
    anna.post(word)
    following = ask(search, q=word, pageSize=1).body["nextPageToken"]
    ask(search, q=word, pageSize=1, pageToken=following)
    assert counted() == (queries + 2, empty + 1)


def test_a_question_is_no_part_of_a_log_line(search: Service, word: str) -> None:
    search.call(f"/search?q={word}", x_correlation_id=word[:9])
    assert word not in str(search.line("request", correlation_id=word[:9]))
