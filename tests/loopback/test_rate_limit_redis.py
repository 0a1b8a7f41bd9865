"""Global rates: all pods count together in a real Redis, and each for itself while it is gone."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nova_api.proxy import ProxyConfig, Store, digest, encode
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.rate_limit import RateLimit, RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy, Tenant, TenantQuota
from nova_api.units import Duration
from nova_sidecar.policy.rate_limit import SCRIPT

from .conftest import StartApp, StartSidecar
from .support.fleet import Fleet, cookie_of
from .support.message import request, response
from .support.peer import Listener
from .support.redisservers import Server, cluster
from .support.sidecar import Sidecar, document, inbound, with_fields
from .support.waiting import eventually

HOUR = Duration(3600)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    redis = Server(directory)
    yield redis
    redis.stop()


@pytest.fixture
def redis(server: Server) -> Server:
    if not server._answers():
        server.start()
    server.command("FLUSHALL")
    return server


def store(server: Server) -> Store:
    return Store(url=f"redis://127.0.0.1:{server.port}/0", timeout=Duration(1))


def limits(*found: RateLimit) -> RateLimitPolicy:
    return RateLimitPolicy(mode="Enforce", limits=found)


def one(rate: int, **fields: Any) -> RateLimit:
    return RateLimit(**({"name": "clients", "rate": rate, "period": HOUR, "scope": "Global"} | fields))


def ask(sidecar: Sidecar, count: int = 1, *lines: str) -> list[int]:
    with sidecar.connect() as client:
        return [client.exchange(request("GET", "/", *lines)).status for _ in range(count)]


def shop(app: tuple[str, int], server: Server, policy: RateLimitPolicy, **fields: Any) -> ProxyConfig:
    return document(inbound(app), store=store(server), rate_limit=policy, **fields)


def test_two_pods_share_one_bucket(start: StartSidecar, app: StartApp, redis: Server) -> None:
    address = app().address
    a, b = (start(shop(address, redis, limits(one(6)))) for _ in range(2))
    assert ask(a, 4) == [200] * 4
    assert ask(b, 4) == [200, 200, 429, 429]
    assert ask(a, 1) == [429]
    assert a.metric("nova_rate_limit_fallbacks_total") == b.metric("nova_rate_limit_fallbacks_total") == 0


def test_many_at_once_get_no_more_than_there_is(start: StartSidecar, app: StartApp, redis: Server) -> None:
    address = app().address
    pods = [start(shop(address, redis, limits(one(20)))) for _ in range(2)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda number: ask(pods[number % 2])[0], range(60)))
    assert (found.count(200), found.count(429)) == (20, 40)


def test_the_flood_of_a_client_beyond_its_limit_costs_redis_nothing(
    start: StartSidecar, app: StartApp, redis: Server
) -> None:
    sidecar = start(shop(app().address, redis, limits(one(2))))
    assert ask(sidecar, 3) == [200, 200, 429]
    calls = sidecar.metric("nova_store_calls_total", store="policies", result="ok")
    assert ask(sidecar, 50) == [429] * 50
    assert sidecar.metric("nova_store_calls_total", store="policies", result="ok") == calls
    assert sidecar.metric("nova_rate_limit_spared_total") == 50


def test_several_limits_are_one_call_and_one_refusal_charges_nobody(
    start: StartSidecar, app: StartApp, redis: Server
) -> None:
    both = limits(one(3), one(2, name="keys", by="Header", header="x-api-key"))
    sidecar = start(shop(app().address, redis, both))
    assert ask(sidecar, 3, "x-api-key: a") == [200, 200, 429]
    assert sidecar.metric("nova_store_calls_total", store="policies", result="ok") == 3
    assert ask(sidecar, 2, "x-api-key: b") == [200, 429]
    form = re.compile(rb"nova:\{default/shop:rate\}:[0-9a-f]{32}")
    assert [key for key in redis.command("KEYS", "*") if not form.fullmatch(key)] == []  # nothing in plain words


def test_what_a_global_limit_refuses_costs_a_local_one_nothing(
    start: StartSidecar, app: StartApp, redis: Server
) -> None:
    near, far = one(3, name="near", scope="Local"), one(1, name="far", paths=("/login",))
    sidecar = start(shop(app().address, redis, limits(near, far)))
    with sidecar.connect() as client:
        targets = ["/login", "/login", "/login", "/", "/", "/"]
        found = [client.exchange(request("GET", target)).status for target in targets]
    assert found == [200, 429, 429, 200, 200, 429]
    assert sidecar.metric("nova_store_calls_total", store="policies", result="ok") == 2  # the third was spared
    assert sidecar.metric("nova_rate_limit_requests_total", limit="near", result="refused") == 1


def test_without_redis_it_costs_nothing_either(start: StartSidecar, app: StartApp, redis: Server) -> None:
    near, far = one(3, name="near", scope="Local"), one(1, name="far", paths=("/login",))
    sidecar = start(shop(app().address, redis, limits(near, far)))
    redis.stop()
    with sidecar.connect() as client:
        targets = ["/login", "/login", "/login", "/", "/", "/"]
        found = [client.exchange(request("GET", target)).status for target in targets]
    assert found == [200, 429, 429, 200, 200, 429]


def test_a_redis_that_is_killed_fails_nobody_and_each_pod_has_its_share(
    start: StartSidecar, app: StartApp, redis: Server
) -> None:
    sidecar = start(shop(app().address, redis, limits(one(8)), pods=4))
    assert ask(sidecar, 2) == [200, 200]
    redis.stop()
    found = ask(sidecar, 12)
    assert set(found) == {200, 429}
    assert found.count(200) == 2  # a quarter of 8
    assert sidecar.metric("nova_rate_limit_fallbacks_total") > 0
    redis.start()
    eventually(lambda: ask(sidecar) == [200], within=20)


def test_switched_off_while_somebody_waits_for_redis(start: StartSidecar, app: StartApp, redis: Server) -> None:
    patient = Store(url=f"redis://127.0.0.1:{redis.port}/0", timeout=Duration(5))
    sidecar = start(document(inbound(app().address), store=patient, rate_limit=limits(one(3))))
    assert ask(sidecar) == [200]
    redis.command("CLIENT", "PAUSE", 4000)
    with sidecar.connect() as client:
        client.send(request())
        eventually(lambda: sidecar.metric("nova_requests_in_flight") == 1)
        sidecar.reload(with_fields(sidecar.config, rate_limit=RateLimitPolicy()))
        eventually(lambda: "nova_rate_limit_requests_total{" not in sidecar.status("/metrics")[1].decode())
        assert client.poll() == b""  # it still waits
        assert client.response().status == 200


def test_switched_to_shadow_while_somebody_waits_for_redis(start: StartSidecar, app: StartApp, redis: Server) -> None:
    patient = Store(url=f"redis://127.0.0.1:{redis.port}/0", timeout=Duration(5))
    sidecar = start(document(inbound(app().address), store=patient, rate_limit=limits(one(1))))
    assert ask(sidecar) == [200]
    redis.command("CLIENT", "PAUSE", 4000)
    with sidecar.connect() as client:
        client.send(request())
        eventually(lambda: sidecar.metric("nova_requests_in_flight") == 1)
        changed = with_fields(sidecar.config, rate_limit=with_fields(limits(one(1)), mode="Shadow"))
        sidecar.reload(changed)
        eventually(lambda: sidecar.metric("nova_config_info", hash=digest(encode(changed))) == 1)
        assert client.poll() == b""  # it still waits
        assert client.response().status == 200  # and is not forgotten


def test_a_tenants_rehearsal_does_not_wake_who_waits_for_something_else(
    start: StartSidecar, listener: Listener, redis: Server
) -> None:
    tenancy = TenancyPolicy(mode="Shadow", scope="Global", default=TenantQuota(rate=5, period=HOUR))
    idempotency = IdempotencyPolicy(mode="Enforce")
    sidecar = start(document(inbound(listener.address), store=store(redis), tenancy=tenancy, idempotency=idempotency))
    message = request("POST", "/orders", "Idempotency-Key: k", "x-tenant-id: acme", body=b"{}")
    with sidecar.connect() as first, sidecar.connect() as second:
        first.send(message)
        leader = listener.accept()
        leader.request()
        eventually(lambda: sidecar.metric("nova_store_calls_total", store="policies", result="ok") == 2)
        second.send(message)
        eventually(lambda: sidecar.metric("nova_store_calls_total", store="policies", result="ok") == 3)
        assert sidecar.stats()["policies"]["idempotency"]["waiting"] == 1
        leader.send(response("201 Created", body=b"done"))
        assert [client.response("POST").body for client in (first, second)] == [b"done"] * 2
        assert sidecar.metric("nova_idempotency_requests_total", result="replayed") == 1


def test_a_store_that_was_never_there_fails_nobody(start: StartSidecar, app: StartApp) -> None:
    config = document(
        inbound(app().address),
        store=Store(url="redis://127.0.0.1:9/0", timeout=Duration(0.2)),
        rate_limit=limits(one(3)),
    )
    assert ask(start(config), 5) == [200, 200, 200, 429, 429]


def test_buckets_leave_redis_when_they_are_full(redis: Server) -> None:
    redis.command("EVAL", SCRIPT, 1, "k", 50_000, 100_000)
    assert 0 < redis.command("PTTL", "k") <= 51
    eventually(lambda: redis.keys() == [])


def test_a_clock_of_redis_that_goes_back_locks_nobody_out(redis: Server) -> None:
    far = int(redis.command("TIME")[0]) * 1_000_000 + 3600 * 1_000_000
    redis.command("SET", "k", far)
    _, wait = redis.command("EVAL", SCRIPT, 1, "k", 100_000, 300_000)
    assert wait == 100_000  # an empty bucket, and no more


def test_in_a_cluster(start: StartSidecar, app: StartApp, tmp_path: Path) -> None:
    """All keys of a service are in one hash slot, so that one script may charge several limits."""
    servers = cluster(tmp_path)
    try:
        both = limits(one(3), one(2, name="keys", by="Header", header="x-api-key"))
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        config = document(inbound(app().address), store=Store(url=url, timeout=Duration(2)), rate_limit=both)
        assert ask(start(config), 3, "x-api-key: a") == [200, 200, 429]
    finally:
        for each in servers:
            each.stop()


def test_a_tenants_rate_is_all_pods_together(start: StartSidecar, app: StartApp, redis: Server) -> None:
    tenancy = TenancyPolicy(mode="Enforce", scope="Global", tenants=(Tenant(name="acme", rate=5, period=HOUR),))
    address = app().address
    a, b = (start(document(inbound(address), store=store(redis), tenancy=tenancy)) for _ in range(2))
    assert ask(a, 3, "x-tenant-id: Acme") == [200] * 3
    assert ask(b, 3, "x-tenant-id: acme") == [200, 200, 429]
    assert ask(b, 1, "x-tenant-id: globex") == [200]
    assert b.metric("nova_tenancy_requests_total", tenant="acme", result="rate_limited") == 1


def test_what_a_sibling_hands_over_counts_once_and_for_the_real_client(tmp_path: Path) -> None:
    """Two pods that know each other; the client's cookie names one, and the requests come to the other."""
    fleet = Fleet(tmp_path)
    try:
        policy = RateLimitPolicy(mode="Enforce", limits=(RateLimit(name="clients", rate=4, period=HOUR),))
        home, entered = fleet.start_all(2, rate_limit=policy)
        before = home.sidecar.metric("nova_rate_limit_requests_total", result="admitted")
        there = entered.sidecar.metric("nova_rate_limit_requests_total", result="admitted")
        cookie = cookie_of(home.ask())
        found = [entered.ask(cookie) for _ in range(4)]
        used = home.sidecar.metric("nova_rate_limit_requests_total", result="admitted") - before
        assert [answer.body for answer in found if answer.status == 200] == [b"a"] * (int(used) - 1)
        assert entered.sidecar.metric("nova_rate_limit_requests_total", result="admitted") == there
        assert found[-1].status == 429
        assert found[-1].get("x-nova-reject") == "rate_limited"
        assert home.ask(cookie).status == 429  # it is one client, whichever way it comes
    finally:
        fleet.close()
