"""media as it runs in a pod: a process, a real PostgreSQL with its migrations and soft delete, a folder of contents."""

import asyncio
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from nova_data.pool.database import Database as Pool
from nova_services.media.kinds import GIF, JPEG, MP4, PNG, WEBP, kind
from nova_services.media.metrics import MediaMetrics
from nova_services.media.records import Records
from nova_services.media.shelf import opened
from nova_services.media.sweeping import sweep
from tests.bench.tools import Unavailable
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.s3server import BUCKET
from tests.loopback.support.s3server import Server as Bucket
from tests.loopback.support.waiting import eventually

from .chatting import NOWHERE, person
from .process import Answer, Service, running
from .telling import Topics

MIGRATIONS = Path(__file__).resolve().parents[3] / "services/nova_services/media/migrations"
HEADS = {
    PNG: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    JPEG: b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01",
    GIF: b"GIF89a\x01\0\x01\0\x80\0",
    WEBP: b"RIFF\x24\0\0\0WEBPVP8 ",
    MP4: b"\0\0\0\x18ftypisom\0\0\x02\0",
}
PICTURE = HEADS[PNG] + bytes(range(256)) * 1200
LARGEST = 10 * 1024 * 1024
FOR_ALL = "/media?visibility=VISIBILITY_PUBLIC"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = Database(postgres)
    for words in (("outbox", "install"), ("migrate", MIGRATIONS), ("soft-delete", "install", "--table", "media")):
        done = made.command(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.drop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def media(database: Database, folder: Path) -> Iterator[Service]:
    words = ("--metrics-port", "0", "--brokers", NOWHERE, "--store", str(folder))
    with running("media", *words, DATABASE_URL=database.url) as service:
        yield service


def upload(media: Service, owner: str, body: Any, called: str = PNG, *, path: str = FOR_ALL, **headers: str) -> Answer:
    """A file as a body, for everybody; one that is no bytes goes in chunks, with no length said."""
    connection = http.client.HTTPConnection("127.0.0.1", media.port, timeout=30)
    try:
        named = {"x-nova-subject": owner, "content-type": called, **headers}
        connection.request("POST", path, body, named, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), json.loads(response.read()))
    finally:
        connection.close()


def read(media: Service, path: str, **headers: str) -> Answer:
    """A content as bytes, by a stranger unless the headers say otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", media.port, timeout=30)
    try:
        connection.request("GET", path, headers={"x-nova-subject": person(), **headers})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def contents(folder: Path) -> set[str]:
    """The names of what lies in the folder."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("called", "head"), HEADS.items())
def test_a_kind_is_told_by_its_first_bytes(called: str, head: bytes) -> None:
    assert kind(head + b"more") == called
    assert kind(head[1:] + b"more") is None


@pytest.mark.parametrize(
    "body", [b"", b"<svg onload=alert(1)>", b"<!doctype html>", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18"]
)
def test_what_may_run_in_a_browser_is_no_kind(body: bytes) -> None:
    assert kind(body) is None


def test_what_was_uploaded_is_what_is_read(media: Service, folder: Path, database: Database) -> None:
    anna = person()
    answer = upload(media, anna, PICTURE, **{"x-correlation-id": "upload-1"})
    assert answer.status == 201
    identity, digest = answer.body["mediaId"], hashlib.sha256(PICTURE).hexdigest()
    told = (answer.body["ownerId"], answer.body["kind"], answer.body["size"], answer.body["sha256"])
    assert told == (anna, PNG, len(PICTURE), digest)
    assert media.call(f"/media/{identity}", x_nova_subject=person()).body == answer.body
    content = read(media, f"/media/{identity}/content")
    assert (content.status, content.body) == (200, PICTURE)
    assert content.headers["content-type"] == PNG
    assert content.headers["x-content-type-options"] == "nosniff"
    assert read(media, f"/media/{identity}/content", **{"if-none-match": f'"{digest}"'}).status == 304
    assert identity in contents(folder)
    columns = "event_type, payload::text, headers->>'correlation-id'"
    ((event, payload, correlation),) = database.rows(
        f"SELECT {columns} FROM outbox_events WHERE aggregate_id = '{identity}'"
    )
    assert (event, correlation) == ("media-added", "upload-1")
    assert json.loads(payload)["ownerId"] == anna


def test_a_body_in_chunks_is_taken_however_it_is_cut(media: Service) -> None:
    answer = upload(media, person(), iter([PICTURE[:3], PICTURE[3:20], PICTURE[20:]]))
    assert (answer.status, answer.body["size"]) == (201, len(PICTURE))
    assert read(media, f"/media/{answer.body['mediaId']}/content").body == PICTURE


def test_the_largest_file_is_taken_and_one_byte_more_is_not(media: Service, folder: Path) -> None:
    whole = HEADS[PNG] + bytes(LARGEST - len(HEADS[PNG]))
    assert upload(media, person(), whole).status == 201
    before = contents(folder)
    parts = (whole[start : start + 65536] for start in range(0, LARGEST, 65536))
    refused = [upload(media, person(), whole + b"x"), upload(media, person(), iter([*parts, b"x"]))]
    assert [answer.status for answer in refused] == [413, 413]
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("body", "called", "says"),
    [
        (HEADS[JPEG], PNG, "expected image/png"),
        (b"<svg onload=alert(1)>", PNG, "expected image/png"),
        (b"\x89PNG", PNG, "expected image/png"),
        (b"", PNG, "expected image/png"),
        (b"<svg/>", "image/svg+xml", "content-type: expected one of image/png"),
    ],
)
def test_another_kind_than_it_is_called_is_not_kept(
    media: Service, folder: Path, body: bytes, called: str, says: str
) -> None:
    before = contents(folder)
    answer = upload(media, person(), body, called)
    assert (answer.status, says in answer.body["error"]) == (415, True), answer
    assert contents(folder) == before


def test_a_body_that_is_not_compressed_as_it_says_is_not_kept(media: Service, folder: Path) -> None:
    before = contents(folder)
    answer = upload(media, person(), PICTURE, PNG, **{"content-encoding": "gzip"})
    assert (answer.status, answer.body) == (400, {"error": "body: expected all of it, as its headers say"})
    assert contents(folder) == before


def test_a_client_that_leaves_halfway_leaves_nothing(media: Service, folder: Path) -> None:
    before, refused = contents(folder), media.metric('nova_media_refused_total{status="400"}')
    connection = http.client.HTTPConnection("127.0.0.1", media.port, timeout=30)
    connection.putrequest("POST", "/media")
    for name, value in (("x-nova-subject", person()), ("content-type", PNG), ("content-length", str(len(PICTURE)))):
        connection.putheader(name, value)
    connection.endheaders(PICTURE[:100_000])
    connection.close()
    eventually(lambda: media.metric('nova_media_refused_total{status="400"}') == refused + 1)
    assert contents(folder) == before


def test_its_owner_deletes_it_and_nobody_else(media: Service, folder: Path, database: Database) -> None:
    anna = person()
    identity = upload(media, anna, PICTURE).body["mediaId"]
    assert media.call(f"/media/{identity}", "DELETE", x_nova_subject=person()).status == 404
    assert media.call(f"/media/{identity}", "DELETE", x_nova_subject=anna).status == 204
    assert media.call(f"/media/{identity}", "DELETE", x_nova_subject=anna).status == 404
    assert media.call(f"/media/{identity}", x_nova_subject=anna).status == 404
    assert read(media, f"/media/{identity}/content").status == 404
    assert database.value(f"SELECT deleted_by::text FROM media WHERE id = '{identity}'") == anna
    assert identity in contents(folder)  # a deletion may be taken back
    query = f"SELECT event_type FROM outbox_events WHERE aggregate_id = '{identity}' AND aggregate_type = 'media'"
    assert ("media-deleted",) in database.rows(query)


def test_a_file_is_its_owners_alone_unless_the_owner_says_otherwise(media: Service) -> None:
    anna, ben = person(), person()
    answer = upload(media, anna, PICTURE, path="/media")
    assert (answer.status, answer.body["visibility"]) == (201, "VISIBILITY_PRIVATE")
    path = f"/media/{answer.body['mediaId']}"
    none = media.call(f"/media/{person()}", x_nova_subject=ben)
    for method, body in (("GET", None), ("PATCH", {"visibility": "VISIBILITY_PUBLIC"}), ("DELETE", None)):
        refused = media.call(path, method, body, x_nova_subject=ben)
        assert (refused.status, refused.body) == (none.status, none.body) == (404, {"error": "there is no such file"})
    known = {"if-none-match": f'"{answer.body["sha256"]}"'}
    assert [read(media, f"{path}/content", **more).status for more in ({}, known)] == [404, 404]
    assert media.call(path, x_nova_subject=anna).body == answer.body
    assert read(media, f"{path}/content", **{"x-nova-subject": anna}).body == PICTURE
    assert read(media, f"{path}/content", **{"x-nova-subject": anna}, **known).status == 304


def test_an_owner_shows_a_file_and_hides_it_again(media: Service, database: Database) -> None:
    anna = person()
    identity = upload(media, anna, PICTURE, path="/media").body["mediaId"]
    seen = []
    for visibility in ("VISIBILITY_PUBLIC", "VISIBILITY_PUBLIC", "VISIBILITY_PRIVATE"):
        changed = media.call(f"/media/{identity}", "PATCH", {"visibility": visibility}, x_nova_subject=anna)
        assert (changed.status, changed.body["visibility"]) == (200, visibility)
        seen.append(read(media, f"/media/{identity}/content").status)
    assert seen == [200, 200, 404]
    query = f"SELECT event_type, payload::text FROM outbox_events WHERE aggregate_id = '{identity}' ORDER BY created_at"
    told = [(event, json.loads(payload)) for event, payload in database.rows(query)]
    assert [event for event, _ in told] == ["media-added", "media-changed", "media-changed"]
    private = {"mediaId": identity, "ownerId": anna, "visibility": "VISIBILITY_PRIVATE"}
    assert told[0][1] == told[2][1] == private  # of what nobody else may see there is nothing more
    assert (told[1][1]["kind"], told[1][1]["size"]) == (PNG, len(PICTURE))
    media.call(f"/media/{identity}", "DELETE", x_nova_subject=anna)
    again = media.call(f"/media/{identity}", "PATCH", {"visibility": "VISIBILITY_PUBLIC"}, x_nova_subject=anna)
    assert again.status == 404


@pytest.mark.parametrize("wrong", ["public", "VISIBILITY_FOLLOWERS", ""])
def test_another_visibility_is_refused_by_name(media: Service, folder: Path, wrong: str) -> None:
    before, anna = contents(folder), person()
    answer = upload(media, anna, PICTURE, path=f"/media?visibility={wrong}")
    assert (answer.status, "$.visibility" in answer.body["error"]) == (400, True), answer
    assert contents(folder) == before
    identity = upload(media, anna, PICTURE).body["mediaId"]
    answer = media.call(f"/media/{identity}", "PATCH", {"visibility": wrong}, x_nova_subject=anna)
    assert (answer.status, "$.visibility" in answer.body["error"]) == (400, True), answer
    answer = media.call(f"/media/{identity}", "PATCH", {}, x_nova_subject=anna)
    assert (answer.status, "visibility" in answer.body["error"]) == (400, True), answer


def test_what_was_kept_before_there_was_a_choice_is_its_owners_alone(media: Service, database: Database) -> None:
    anna, identity = person(), person()
    columns = "(id, user_id, kind, size, sha256)"  # as a process of the version before inserts them
    database.sql(f"INSERT INTO media {columns} VALUES ('{identity}', '{anna}', '{PNG}', 1, '')")
    assert media.call(f"/media/{identity}", x_nova_subject=person()).status == 404
    assert media.call(f"/media/{identity}", x_nova_subject=anna).body["visibility"] == "VISIBILITY_PRIVATE"


def test_who_asks_must_be_known_and_ask_for_an_id(media: Service) -> None:
    assert media.call("/media", "POST").status == 401
    assert media.call("/media/x", x_nova_subject=person()).status == 400
    assert media.call(f"/media/{person()}", x_nova_subject=person()).status == 404


def test_content_without_a_row_is_swept_when_it_is_old(database: Database, tmp_path: Path) -> None:
    words = ("--metrics-port", "0", "--brokers", NOWHERE, "--store", str(tmp_path), "--sweep-every", "1")
    with running("media", *words, DATABASE_URL=database.url) as service:
        kept = upload(service, person(), PICTURE).body["mediaId"]
        orphan, young = person(), person()
        for name in (orphan, young):
            path = tmp_path / name[:2] / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(PICTURE)
        foreign = tmp_path / "README"
        foreign.write_text("not ours")
        long_ago = time.time() - 7200
        for old in (tmp_path / orphan[:2] / orphan, tmp_path / kept[:2] / kept, foreign):
            os.utime(old, (long_ago, long_ago))
        service.line("contents swept", removed=1)
        assert contents(tmp_path) == {kept, young, "README"}


BEGUN = """
import asyncio, sys, uuid
from nova_services.media.shelf import opened
async def content():
    yield bytes(6 * 1024 * 1024)
    print("begun", flush=True)
    await asyncio.sleep(60)
asyncio.run(opened(sys.argv[1]).put(uuid.uuid4(), content()))
"""


def test_what_a_process_that_was_killed_has_begun_to_write_is_swept(database: Database, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", BEGUN, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.kill()
    assert len(contents(tmp_path)) == 1

    async def look(*, later: float) -> int:
        async with Pool(database.url) as pool:
            now = datetime.now(UTC) + timedelta(seconds=later)
            return await sweep(opened(str(tmp_path)), Records(pool), MediaMetrics(CollectorRegistry()), now=now)

    assert asyncio.run(look(later=3000)) == 0
    assert asyncio.run(look(later=4000)) == 1
    assert not contents(tmp_path)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    try:
        server = Bucket(tmp_path / "buckets")
    except Unavailable as why:
        pytest.skip(str(why))
    yield server
    server.stop()


def test_contents_in_a_bucket_are_kept_and_read(database: Database, bucket: Bucket) -> None:
    words = ("--metrics-port", "0", "--brokers", NOWHERE, "--store", f"s3://{BUCKET}/media")
    large = PICTURE * 25  # two parts
    with running("media", *words, DATABASE_URL=database.url, **bucket.environment) as service:
        for body in (PICTURE, large):
            identity = upload(service, person(), body).body["mediaId"]
            assert read(service, f"/media/{identity}/content").body == body
        database.sql(f"DELETE FROM media WHERE id = '{identity}'")
        assert read(service, f"/media/{identity}/content").status == 404
        bucket.stop()
        answer = upload(service, person(), PICTURE)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.body == {"error": "the store of contents is not available"}


def test_a_bucket_is_swept(database: Database, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    shelf, old, kept = opened(f"s3://{BUCKET}/media"), uuid.uuid4(), uuid.uuid4()

    async def content() -> AsyncIterator[bytes]:
        yield PICTURE

    async def look() -> tuple[int, set[uuid.UUID]]:
        for media in (old, kept):
            await shelf.put(media, content())
        async with Pool(database.url) as pool:
            records = Records(pool)
            await records.add(kept, uuid.uuid4(), PNG, 1, b"")
            later = datetime.now(UTC) + timedelta(hours=2)
            removed = await sweep(shelf, records, MediaMetrics(CollectorRegistry()), now=later)
        return removed, {media async for some in shelf.listed() for media, _ in some}

    assert asyncio.run(look()) == (1, {kept})


def test_who_is_erased_leaves_no_row_and_no_content(database: Database, kafka: Kafka, tmp_path: Path) -> None:
    topics = Topics(kafka, "media", "user")
    words = ("--metrics-port", "0", "--store", str(tmp_path), *topics.words())
    with running("media", *words, DATABASE_URL=database.url) as service:
        anna, ben = person(), person()
        hers = [upload(service, anna, PICTURE).body["mediaId"] for _ in range(3)]
        service.call(f"/media/{hers[0]}", "DELETE", x_nova_subject=anna)
        his = upload(service, ben, PICTURE).body["mediaId"]
        event = topics.tell("user", "user-erased", {"userId": anna})
        service.line("user erased", reference=event)
        assert contents(tmp_path) == {his}
        assert database.value(f"SELECT count(*) FROM media WHERE user_id = '{anna}'") == 0
        removed = f"SELECT removed->>'media' FROM nova_erasures WHERE reference = '{event}' AND finished_at IS NOT NULL"
        assert database.value(removed) == "3"
        told = "SELECT count(*) FROM outbox_events WHERE event_type = 'media-deleted' AND aggregate_id = ANY ('{%s}')"
        assert database.value(told % ",".join(hers)) == 3
        late = upload(service, anna, PICTURE)  # a token goes on for minutes
        assert (late.status, late.body) == (403, {"error": "the account is closed"})
        assert contents(tmp_path) == {his}


def test_rows_that_somebody_holds_are_waited_for_by_few_connections(
    database: Database, kafka: Kafka, tmp_path: Path
) -> None:
    """It is no attempt that failed, and however many are erased at once, half of the pool's connections are others'."""
    topics, people = Topics(kafka, "media", "user"), [person() for _ in range(12)]
    words = ("--metrics-port", "0", "--store", str(tmp_path), *topics.words())
    connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'media-erasing'"
    with running("media", *words, DATABASE_URL=database.url) as service:
        for one in people:
            media = upload(service, one, PICTURE).body["mediaId"]
            assert service.call(f"/media/{media}", "DELETE", x_nova_subject=one).status == 204
        attempts = f'nova_consumer_attempt_seconds_count{{topic="{topics.prefix}user"}}'
        retried = f'nova_consumer_retried_total{{topic="{topics.prefix}user"}}'
        found = []

        def tried() -> bool:
            found.append(database.value(connections))
            return service.metric(attempts) > len(people)

        async def held(connection: Any) -> None:
            async with connection.transaction():
                await connection.execute("SELECT FROM media WHERE user_id = ANY ($1) FOR UPDATE", people)
                for one in people:
                    topics.tell("user", "user-erased", {"userId": one})
                await asyncio.to_thread(eventually, tried, within=30)

        database.do(held)
        assert 1 < max(found) <= 4
        for _ in people:
            service.line("user erased")
        assert service.metric(retried) == 0
        assert database.value(f"SELECT count(*) FROM media WHERE user_id = ANY ('{{{','.join(people)}}}')") == 0


def test_without_its_database_it_says_so_and_lives(tmp_path: Path) -> None:
    words = ("--metrics-port", "0", "--brokers", NOWHERE, "--store", str(tmp_path))
    with running("media", *words, DATABASE_URL="postgresql://media@127.0.0.1:1/media") as service:
        answer = upload(service, person(), PICTURE)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert service.call("/healthz").status == 200


def test_it_counts_what_people_do(media: Service) -> None:
    def counts() -> list[float]:
        names = ('uploads_total{kind="image/gif"}', "uploaded_bytes_total", "reads_total", "deletions_total")
        return [media.metric(f"nova_media_{name}") for name in names]

    before, anna = counts(), person()
    identity = upload(media, anna, HEADS[GIF], GIF).body["mediaId"]
    read(media, f"/media/{identity}/content")
    media.call(f"/media/{identity}", "DELETE", x_nova_subject=anna)
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, len(HEADS[GIF]), 1, 1]


@pytest.mark.parametrize("store", ["gs://bucket", "ftp://host/folder"])
def test_a_store_of_another_sort_is_refused(store: str) -> None:
    with pytest.raises(ValueError, match="--store: expected a folder, or s3://bucket/folder"):
        opened(store)
