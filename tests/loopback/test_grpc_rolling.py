"""A client that knows two sidecars, both of which are restarted one after the other: no call of it fails."""

from pathlib import Path

import grpc
import pytest

from nova_api.proxy import DrainPolicy
from nova_api.units import Duration

from .support.grpcapp import UNLIMITED, GrpcApp, GrpcClient, request, serving
from .support.sidecar import Sidecar, document, inbound
from .support.waiting import eventually
from .test_grpc_lifetimes import Load


def over(*sidecars: Sidecar) -> GrpcClient:
    """A client whose calls take turns over these sidecars, as over the addresses that a name has."""
    client = GrpcClient(sidecars[0].address())
    client.channel.close()
    addresses = ",".join(f"{host}:{port}" for host, port in (sidecar.address() for sidecar in sidecars))
    options = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1), ("grpc.lb_policy_name", "round_robin")]
    options += [("grpc.default_authority", "shop")]  # else it is the list, which names no host
    options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    client.channel = grpc.insecure_channel(f"ipv4:{addresses}", options=options)
    client.bind()
    return client


@pytest.mark.timeout(90)
def test_a_rolling_restart_of_two_sidecars_fails_no_call(tmp_path: Path) -> None:
    app = GrpcApp()
    drain = DrainPolicy(delay=Duration(0.3), timeout=Duration(10))
    configs = [document(inbound(app.address, protocol="grpc"), drain=drain) for _ in range(2)]
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    running = [Sidecar.start(config, folder) for config, folder in zip(configs, folders, strict=True)]
    try:
        with over(*running) as client:
            long = client.download(request(sizes=[1] * 40, sleep=0.1), timeout=60)  # on either: it is finished first
            next(long)
            with Load(client) as load:
                for at in (0, 1, 0):
                    goal = load.calls + 20
                    eventually(lambda: load.calls > goal, within=20)  # noqa: B023 - called at once
                    assert running[at].stop() == 0
                    assert not running[at].complaints()
                    running[at] = Sidecar.start(configs[at], folders[at])
                    serving(running[at].address())
            assert len(list(long)) == 39
        assert not load.errors, load.errors[:3]
        assert load.calls > 60
        for sidecar in running:
            assert sidecar.stop() == 0
    finally:
        for sidecar in running:
            sidecar.kill()
        app.stop()
