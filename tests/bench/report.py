"""From samples to figures, a table for people and a document for programs."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from .machine import Cores
from .measure import Measured, Plan, Sample, Samples, Scenario
from .tools import Interpreter

_NOISY = 0.10
_SATURATED = 0.97
_REFERENCES = ("envoy", "envoy_policies", "haproxy", "haproxy_policies", "nginx")


def figures(
    found: Sequence[tuple[Plan, Measured]],
    skipped: Mapping[str, str],
    versions: Mapping[str, str],
    python: Interpreter,
) -> dict[str, Any]:
    """The document that is written as JSON. Every figure is the median over the rounds."""
    scenarios = [(scenario, measured) for plan, measured in found for scenario in plan.scenarios]
    cores = found[0][0].cores if found else Cores.choose()
    return {
        **{scenario.key: _group(scenario, measured) for scenario, measured in scenarios},
        **{key: value for plan, measured in found if plan.idle for key, value in _memory(plan, measured).items()},
        "skipped": dict(skipped),
        "noise": _noise([measured for _, measured in found]),
        "scenarios": {scenario.key: str(scenario) for scenario, _ in scenarios},
        "cores": {"proxy": cores.proxy, "load": cores.load},
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "sidecar_python": asdict(python),
        "versions": dict(versions),
    }


def _group(scenario: Scenario, measured: Measured) -> dict[str, Any]:
    samples = measured.samples[scenario.key]
    figures: dict[str, Any] = {name: _figures_of(name, taken, measured) for name, taken in samples.items()}
    if not scenario.rate:
        figures |= _rps_ratios(samples)
    return figures | _cpu_ratios(samples) | _memory_ratios(samples, measured) | _surcharges(samples) | _tails(samples)


def _figures_of(name: str, taken: Sequence[Sample], measured: Measured) -> dict[str, float]:
    rps = [sample.answer.rps for sample in taken]
    return {
        "rps": round(median(rps), 1),
        "rps_min": round(min(rps), 1),
        "rps_max": round(max(rps), 1),
        "p50_ms": round(median(sample.answer.p50_ms for sample in taken), 3),
        "p99_ms": round(median(sample.answer.p99_ms for sample in taken), 3),
        "late_p99_ms": round(median(sample.answer.late_p99_ms for sample in taken), 3),
        "rss_mb": round(measured.rss_mb[name], 1),
        "pss_mb": round(measured.pss_mb[name], 1),
        "cpu_us_per_request": round(median(sample.cpu_us_per_request for sample in taken), 1),
        "errors": sum(sample.answer.errors for sample in taken),
        "load_core_share": round(median(sample.usage.load_share for sample in taken), 2),
    }


def _pairs(samples: Samples) -> Iterator[tuple[str, list[tuple[Sample, Sample]]]]:
    """Nova's sample beside each reference's sample of the same round."""
    for reference in _REFERENCES:
        if "nova" in samples and reference in samples:
            yield reference, list(zip(samples["nova"], samples[reference], strict=True))


def _rps_ratios(samples: Samples) -> dict[str, float]:
    """Nova's requests per second over each reference's: taken inside each round, then the median over the rounds."""
    return {
        f"ratio_{reference}": round(median(ours.answer.rps / theirs.answer.rps for ours, theirs in pairs), 2)
        for reference, pairs in _pairs(samples)
    }


def _cpu_ratios(samples: Samples) -> dict[str, float]:
    """The same for requests per CPU second, which holds up where others use the machine too."""
    return {
        f"ratio_cpu_{reference}": round(
            median(theirs.cpu_us_per_request / ours.cpu_us_per_request for ours, theirs in pairs), 2
        )
        for reference, pairs in _pairs(samples)
    }


def _surcharges(samples: Samples) -> dict[str, float]:
    """CPU µs per request that a policy costs over its proxy without one: the median over the rounds."""
    policies = [(name, base) for name in samples for base in ("nova", "envoy") if name.startswith(f"{base}_")]
    return {
        f"surcharge_{name}": round(
            median(
                one.cpu_us_per_request - bare.cpu_us_per_request
                for one, bare in zip(samples[name], samples[base], strict=True)
            ),
            2,
        )
        for name, base in policies
        if base in samples and not name.endswith(("_outbound", "_policies"))
    }


def _tails(samples: Samples) -> dict[str, float]:
    """The p99 of a remembered token over that of a verified one: the median over the rounds."""
    pairs = [(name, f"{name}_verified") for name in ("nova_jwt", "envoy_jwt")]
    return {
        f"p99_ratio_{name}": round(
            median(
                known.answer.p99_ms / anew.answer.p99_ms
                for known, anew in zip(samples[name], samples[verified], strict=True)
            ),
            2,
        )
        for name, verified in pairs
        if name in samples and verified in samples
    }


def _memory_ratios(samples: Samples, measured: Measured) -> dict[str, float]:
    rss = measured.rss_mb
    return {f"ratio_rss_{name}": round(rss["nova"] / rss[name], 2) for name, _ in _pairs(samples)}


def _memory(plan: Plan, measured: Measured) -> dict[str, Any]:
    """Resident memory at rest and with idle connections, and what one of them costs."""
    names = [name for name in measured.idle_mb if name not in ("direct", "nova_outbound")]
    rest, full = measured.rss_mb, measured.idle_mb
    each = {name: (full[name] - rest[name]) * 2**20 / plan.idle for name in names}
    others = [name for name in _REFERENCES if name in names and "nova" in names]
    rss = {name: {"rest_mb": round(rest[name], 1), f"with_{plan.idle}_mb": round(full[name], 1)} for name in names}
    return {
        "rss": {**rss, **{f"ratio_{name}": round(rest["nova"] / rest[name], 2) for name in others}},
        "idle_connection_bytes": {
            **{name: round(each[name]) for name in names},
            **{f"ratio_{name}": round(each["nova"] / each[name], 2) for name in others if each[name] > 0},
        },
    }


def _noise(found: Sequence[Measured]) -> dict[str, float]:
    every = [
        sample
        for measured in found
        for samples in measured.samples.values()
        for name, taken in samples.items()
        if name != "direct"
        for sample in taken
    ]
    shares = [sample.usage.foreign_share for sample in every] or [0.0]
    return {"proxy_core_foreign_share": round(median(shares), 3), "proxy_core_foreign_share_max": round(max(shares), 3)}


def table(document: Mapping[str, Any]) -> str:
    """The same figures as text."""
    lines = []
    for key, title in document["scenarios"].items():
        rows = {name: value for name, value in document[key].items() if isinstance(value, dict)}
        lines += [title, _HEADER, *(_line(name, value) for name, value in rows.items())]
        lines += [*_ratio_lines(document[key]), ""]
    if "rss" in document:
        lines += _memory_lines(document)
    if document.get("scaling"):
        lines += _scaling_lines(document["scaling"])
    lines += [f"{name} skipped: {reason}" for name, reason in document["skipped"].items()]
    lines += [f"the sidecar ran on {Interpreter(**document['sidecar_python'])}"]
    return "\n".join([*lines, *_warnings(document)])


_HEADER = f"{'':24}{'req/s':>9}{'spread':>8}{'p50 ms':>9}{'p99 ms':>9}{'RSS MB':>8}{'CPU µs/req':>12}{'errors':>8}"


def _ratio_lines(group: Mapping[str, Any]) -> list[str]:
    """Nova over each reference: requests/s and requests per CPU second, where more is better; memory, where less is."""
    lines = []
    for name in (name for name in _REFERENCES if f"ratio_cpu_{name}" in group):
        rps = f"{group[f'ratio_{name}']:.2f} in req/s, " if f"ratio_{name}" in group else ""
        cpu, rss = group[f"ratio_cpu_{name}"], group[f"ratio_rss_{name}"]
        lines.append(f"nova / {name}: {rps}{cpu:.2f} in requests per CPU second, {rss:.2f} in memory")
    surcharges = [(key.removeprefix("surcharge_"), cost) for key, cost in group.items() if key.startswith("surcharge_")]
    lines += [f"{name}: {cost:+.1f} CPU µs per request over its proxy alone" for name, cost in surcharges]
    tails = [(key.removeprefix("p99_ratio_"), ratio) for key, ratio in group.items() if key.startswith("p99_ratio_")]
    return lines + [f"{name}: p99 {ratio:.2f} of that with every token verified" for name, ratio in tails]


def _line(name: str, value: Mapping[str, float]) -> str:
    spread = (value["rps_max"] - value["rps_min"]) / 2 / value["rps"] if value["rps"] else 0.0
    return (
        f"{name:<24}{value['rps']:>9,.0f}{f'±{spread:.0%}':>8}{value['p50_ms']:>9.2f}{value['p99_ms']:>9.2f}"
        f"{value['rss_mb']:>8.1f}{value['cpu_us_per_request']:>12.1f}{value['errors']:>8}"
    )


def _memory_lines(document: Mapping[str, Any]) -> list[str]:
    rss, bytes_each = document["rss"], document["idle_connection_bytes"]
    lines = ["memory at rest, with idle keep-alive connections, and what one of them costs"]
    for name, value in rss.items():
        if isinstance(value, dict):
            rest, full = value.values()
            lines.append(f"{name:<24}{rest:>9.1f} MB{full:>9.1f} MB{bytes_each[name]:>9,} B")
    return [*lines, ""]


def _scaling_lines(scaling: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = ["CPU µs per request of the sidecar while something else grows"]
    for name, steps in scaling.items():
        lines.append(f"{name:<24}" + "".join(f"{int(step):>9,}: {cost:5.1f}" for step, cost in steps.items()))
    return [*lines, ""]


def _warnings(document: Mapping[str, Any]) -> list[str]:
    found = []
    if document["cores"]["proxy"] == document["cores"]["load"]:
        found.append("only one core: proxy and load share it, so requests/s say little; CPU µs/req still compare")
    foreign = document["noise"]["proxy_core_foreign_share_max"]
    if foreign > _NOISY:
        found.append(f"others used up to {foreign:.0%} of the proxy's core meanwhile: repeat on a quiet machine")
    full = [
        f"{name} ({key})"
        for key in document["scenarios"]
        for name, value in document[key].items()
        if name != "direct" and isinstance(value, dict) and value["load_core_share"] > _SATURATED
    ]
    if not document["sidecar_python"]["optimised"]:
        found.append("the sidecar's Python is not an optimised build, as its image has: it looks up to 19% slower")
    if reason := document["sidecar_python"]["why_pure"]:
        found.append(f"the sidecar is compiled in its image and was not here: {reason}")
    if full:
        found.append(f"the load core was full, so the requests/s are a lower bound: {', '.join(full)}")
    return ["", *(f"note: {line}" for line in found)] if found else []


def write(document: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def verdict(document: Mapping[str, Any], floor: float) -> str:
    """Why the run does not pass `--check`; empty when it does."""
    http1 = document["http1"]
    if "ratio_envoy" not in http1:
        return f"nova and envoy were not both measured: {document['skipped'] or 'see --only'}"
    if errors := http1["nova"]["errors"]:
        return f"nova answered {errors} requests with an error"
    if http1["ratio_envoy"] < floor:
        return f"http1.ratio_envoy is {http1['ratio_envoy']}, expected at least {floor}"
    return ""
