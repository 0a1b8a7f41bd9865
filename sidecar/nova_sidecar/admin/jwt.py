"""What is counted of tokens, as metrics; only where the policy is on. No label is a client's word: results and tiers
are fixed lists, issuers are those of the configuration."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily, HistogramFamily
from nova_sidecar.pipeline.jwt_stats import VERIFICATION_BOUNDS
from nova_sidecar.pipeline.stats import PortStats

_EMPTY: Final[Mapping[str, Any]] = {}


def jwt_metrics(ports: Sequence[PortStats], stats: Mapping[str, Any]) -> Iterator[Family]:
    """Requests by what became of them, and what is known of tokens and keys. `stats` is the desk's snapshot."""
    requests = CounterFamily(
        "nova_jwt_requests", "Requests by what was found of their token.", labels=("name", "result")
    )
    for port in ports:
        for result, count in port.policies.get("jwt", _EMPTY).items():
            requests.add_metric((port.name, result), count)
    yield requests
    for name, text, label, field in (
        ("nova_jwt_lookups", "Tokens by who knew what to say of them.", "tier", "lookups"),
        ("nova_jwt_redis", "Questions about tokens to Redis, by its answer.", "result", "redis"),
    ):
        counter = CounterFamily(name, text, labels=(label,))
        for value, count in stats.get(field, _EMPTY).items():
            counter.add_metric((value,), count)
        yield counter
    yield _verification(stats.get("verification", _EMPTY))
    remembered = GaugeFamily("nova_jwt_remembered", "Tokens that are remembered.", labels=("kind",))
    for kind, count in stats.get("remembered", _EMPTY).items():
        remembered.add_metric((kind,), count)
    yield remembered
    yield from _keys(stats.get("issuers", ()))


def _verification(measured: Mapping[str, Any]) -> Family:
    family = HistogramFamily("nova_jwt_verification_seconds", "Verifications of a signature.")
    if measured:
        bounds = [*(str(bound) for bound in VERIFICATION_BOUNDS), "+Inf"]
        family.add_metric((), zip(bounds, accumulate(measured["buckets"]), strict=True), measured["seconds"])
    return family


def _keys(issuers: Sequence[Mapping[str, Any]]) -> Iterator[Family]:
    keys = GaugeFamily("nova_jwt_keys", "Keys of an issuer that tokens are verified with.", labels=("issuer",))
    age = GaugeFamily(
        "nova_jwt_keys_age_seconds",
        "Time since an issuer's keys were fetched; -1 where there are none.",
        labels=("issuer",),
    )
    fetches = CounterFamily("nova_jwt_key_fetches", "Fetches of an issuer's keys.", labels=("issuer", "result"))
    for one in issuers:
        keys.add_metric((one["issuer"],), one["keys"])
        if one["fetched"]:
            age.add_metric((one["issuer"],), -1 if one["ageSeconds"] is None else one["ageSeconds"])
            for result, count in one["fetches"].items():
                fetches.add_metric((one["issuer"], result), count)
    yield from (keys, age, fetches)
