"""Every figure of a contender, computed of its samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from manylabel_bench.contenders import kind_of
from manylabel_bench.results.statistics import interval, percentile

Samples = Mapping[str, Sequence[Any]]


def figures(name: str, samples: Samples, head: Mapping[str, Any]) -> dict[str, Any]:
    """Those whose scenario was measured.

    Args:
        name: The contender's.
        samples: By scenario.
        head: Of the document: `texts`, `peak` and `operations_per_token`.
    """
    found: dict[str, Any] = {}
    for scenario, compute in SCENARIOS.items():
        if samples.get(scenario):
            found |= compute(name, samples, head)
    return found


def _bulk(name: str, samples: Samples, head: Mapping[str, Any]) -> dict[str, Any]:
    rates = [head["texts"] / one["seconds"] for one in samples["bulk"]]
    low, high = interval(rates)
    (batching,) = samples["batching"][-1:]
    tokens = float(np.median(rates)) / head["texts"] * batching["tokens"]
    return {
        "texts_per_second": {"median": float(np.median(rates)), "low": low, "high": high, "all": rates},
        "tokens_per_second": tokens,
        "batching": batching["batching"],
        "padding_share": batching["padding_share"],
        "share_of_peak": share_of_peak(name, tokens, head),
        "load_seconds": float(np.median(samples["load"])),
        "peak_rss_mb": max(one["peak_rss_mb"] for one in samples["bulk"]),
    }


def share_of_peak(name: str, tokens_per_second: float, head: Mapping[str, Any]) -> float | None:
    """Of what the machine can do with a contender's operands; None where that was not measured."""
    operations, peak = head.get("operations_per_token"), head.get("peak", {}).get(kind_of(name).operands)
    return tokens_per_second * operations / (peak * 1e9) if operations and peak else None


def _single(name: str, samples: Samples, head: Mapping[str, Any]) -> dict[str, Any]:
    ms = np.array(samples["single"]) * 1000
    named = {f"p{q}": float(np.percentile(ms, q)) for q in (50, 90, 99)}
    ends = {f"p{q}_interval": interval(ms.tolist(), percentile(q)) for q in (50, 99)}
    return {"single_text_ms": {**named, "max": float(ms.max()), "n": len(ms), **ends}}


def _cold(name: str, samples: Samples, head: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"start_{cache}_seconds": {"median": float(np.median(seconds)), "low": low, "high": high, "n": len(seconds)}
        for cache in ("warm", "cold")
        if (seconds := [one["seconds"] for one in samples["cold"] if one["cache"] == cache])
        for low, high in (interval(seconds),)
    }


def _scaling(name: str, samples: Samples, head: Mapping[str, Any]) -> dict[str, Any]:
    """By threads, length and size of a call: texts a second, and by length also tokens, share of the peak and p50."""
    found: dict[str, dict[str, Any]] = {}
    for by in ("threads", "length", "call"):
        for at in sorted({one["at"] for one in samples["scaling"] if one["by"] == by}):
            chosen = [one for one in samples["scaling"] if one["by"] == by and one["at"] == at]
            rate = float(np.median([one["texts"] / one["seconds"] for one in chosen]))
            found.setdefault(by, {})[str(at)] = {"texts_per_second": rate}
            if by == "length":
                singles = np.concatenate([one["singles"] for one in chosen]) * 1000
                found[by][str(at)] |= {
                    "tokens_per_second": rate * at,
                    "share_of_peak": share_of_peak(name, rate * at, head),
                    "single_p50_ms": float(np.percentile(singles, 50)),
                    "single_p99_ms": float(np.percentile(singles, 99)),
                }
    return {"scaling": found}


def _last(scenario: str) -> Any:
    return lambda name, samples, head: {scenario: samples[scenario][-1]}


SCENARIOS = {
    "bulk": _bulk,
    "single": _single,
    "stages": _last("stages"),
    "cold": _cold,
    "memory": _last("memory"),
    "size": _last("size"),
    "scaling": _scaling,
    "server": lambda name, samples, head: {"server": list(samples["server"])},
}
"""What each scenario's samples come to."""
