"""Puts the reference backend in place: the cluster and Nova as the demo does, stores, services. May be repeated."""

from concurrent.futures import ThreadPoolExecutor

from nova_cli.cluster.provider import Provider
from nova_cli.console import Console
from nova_cli.demo import bring_up as demo
from nova_cli.demo.backend import services, stores
from nova_cli.demo.backend.stage import Backend
from nova_cli.demo.stage import CLIENT
from nova_cli.images.stores import build_stores
from nova_cli.repository import find_repository


def bring_up(cluster: Provider, console: Console) -> Backend:
    """A running cluster with all of the backend in it, ready for people. Raises CommandError saying what failed."""
    found = services.find(find_repository())
    with ThreadPoolExecutor(max_workers=1) as pool:
        image = pool.submit(build_stores, console)
        stage, version = demo.put_up(cluster, console)
        cluster.load([image.result()])
    backend = Backend(stage.kubectl_path, stage.kubeconfig)
    with console.step("start PostgreSQL, Redis and Kafka") as step:
        stores.apply(backend)
        stale = demo.open_namespace(backend, version)
        stores.wait(backend, step)
        step.note("databases and topics")
        backend.kubectl("wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=120s", patience=130)
        empty = stores.make_databases(backend, [one.name for one in found if one.has_database])
        stores.make_topics(backend)
    with console.step(f"apply examples/backend ({', '.join(one.name for one in found)})") as step:
        services.apply(backend, found, empty)
        if stale and (there := services.deployments(backend)):
            backend.kubectl("rollout", "restart", *there)
        services.wait(backend, found, step)
    return backend
