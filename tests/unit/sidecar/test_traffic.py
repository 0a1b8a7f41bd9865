"""What a sidecar says of its app's traffic: by this a canary is judged."""

from nova_sidecar.admin.traffic import traffic
from nova_sidecar.pipeline.stats import OTHER_CODE, HandedOver, PortStats


def test_inbound_ports_are_summed_and_outbound_ones_are_not() -> None:
    web, api, db = PortStats("inbound", "web"), PortStats("inbound", "api"), PortStats("outbound", "db")
    web.responses[:] = [1, 0, 90, 3, 4, 2]
    api.responses[2] = 10
    db.responses[5] = 1000
    for port, seconds in ((web, 0.02), (api, 0.02), (api, 100.0), (db, 1.0)):
        port.duration.observe(seconds)
    found = traffic([web, api, db])
    assert (found["requests"], found["failed"]) == (110, 3)
    assert (sum(found["durations"]), found["durations"][-1]) == (3, 1)
    assert len(found["durations"]) == len(found["bounds"]) + 1


def test_grpc_calls_fail_by_their_code() -> None:
    port = PortStats("inbound", "grpc")
    port.responses[2] = 100
    port.grpc = [0] * (OTHER_CODE + 1)
    for code, count in ((0, 90), (5, 4), (14, 3), (13, 3)):  # NOT_FOUND is an answer
        port.grpc[code] = count
    assert traffic([port])["failed"] == 6


def test_what_another_pod_answered_is_not_this_apps() -> None:
    port = PortStats("inbound", "web")
    port.handed_over = HandedOver()
    for status in (200, 200, 503):
        port.responses[status // 100] += 1
        port.duration.observe(0.02)
    port.handed_over.count(503, 0.02)
    found = traffic([port])
    assert (found["requests"], found["failed"], sum(found["durations"])) == (2, 0, 2)


def test_without_ports_there_is_nothing() -> None:
    found = traffic([])
    assert (found["requests"], found["failed"], sum(found["durations"])) == (0, 0, 0)
