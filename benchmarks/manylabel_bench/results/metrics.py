"""The figures of a contender, computed from its samples: medians, percentiles and their 95 % confidence intervals."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from manylabel_bench.contenders.registry import find_contender

ContenderSamples = Mapping[str, Sequence[Any]]
"""The samples of one contender, by scenario."""

RESAMPLES = 1000


def compute_figures(name: str, samples: ContenderSamples, head: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the figures of every scenario that was measured.

    Args:
        name: The contender's name.
        samples: Its samples, by scenario.
        head: The document's `texts`, `peak` and `operations_per_token`.
    """
    figures: dict[str, Any] = {}
    for scenario, compute in SCENARIO_FIGURES.items():
        if samples.get(scenario):
            figures |= compute(name, samples, head)
    return figures


def bootstrap_interval(samples: Sequence[float], statistic: Callable[..., Any] = np.median) -> tuple[float, float]:
    """Return the 95 % confidence interval of a statistic (percentile bootstrap, with a fixed seed).

    Args:
        samples: At least one value. With three values the ends are little more than the smallest and the largest.
        statistic: A function that takes `axis`.

    >>> bootstrap_interval([100.0])
    (100.0, 100.0)
    >>> low, high = bootstrap_interval([90.0, 95.0, 100.0, 105.0, 110.0])
    >>> 90 <= low < 100 < high <= 110
    True
    """
    if len(samples) == 1:
        return float(samples[0]), float(samples[0])
    result = bootstrap((samples,), statistic, n_resamples=RESAMPLES, method="percentile", random_state=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def share_of_peak(name: str, tokens_per_second: float, head: Mapping[str, Any]) -> float | None:
    """Return the share of the machine's peak that a contender reaches; None if that peak was not measured."""
    operations, peak = head.get("operations_per_token"), head.get("peak", {}).get(find_contender(name).operands)
    return tokens_per_second * operations / (peak * 1e9) if operations and peak else None


def _bulk_figures(name: str, samples: ContenderSamples, head: Mapping[str, Any]) -> dict[str, Any]:
    rates = [head["texts"] / sample["seconds"] for sample in samples["bulk"]]
    low, high = bootstrap_interval(rates)
    batching = samples["batching"][-1]
    tokens = float(np.median(rates)) / head["texts"] * batching["tokens"]
    return {
        "texts_per_second": {"median": float(np.median(rates)), "low": low, "high": high, "all": rates},
        "tokens_per_second": tokens,
        "batching": batching["batching"],
        "padding_share": batching["padding_share"],
        "share_of_peak": share_of_peak(name, tokens, head),
        "load_seconds": float(np.median(samples["load"])),
        "peak_rss_mb": max(sample["peak_rss_mb"] for sample in samples["bulk"]),
    }


def _single_figures(name: str, samples: ContenderSamples, head: Mapping[str, Any]) -> dict[str, Any]:
    ms = np.array(samples["single"]) * 1000
    percentiles = {f"p{q}": float(np.percentile(ms, q)) for q in (50, 90, 99)}
    intervals = {f"p{q}_interval": bootstrap_interval(ms.tolist(), partial(np.percentile, q=q)) for q in (50, 99)}
    return {"single_text_ms": {**percentiles, "max": float(ms.max()), "n": len(ms), **intervals}}


def _cold_start_figures(name: str, samples: ContenderSamples, head: Mapping[str, Any]) -> dict[str, Any]:
    figures = {}
    for cache in ("warm", "cold"):
        if seconds := [sample["seconds"] for sample in samples["cold"] if sample["cache"] == cache]:
            low, high = bootstrap_interval(seconds)
            median = float(np.median(seconds))
            figures[f"start_{cache}_seconds"] = {"median": median, "low": low, "high": high, "n": len(seconds)}
    return figures


def _scaling_figures(name: str, samples: ContenderSamples, head: Mapping[str, Any]) -> dict[str, Any]:
    """Return texts per second by threads, length and call size; by length also tokens, share of the peak, p50, p99."""
    figures: dict[str, dict[str, Any]] = {}
    for by in ("threads", "length", "call"):
        for at in sorted({sample["at"] for sample in samples["scaling"] if sample["by"] == by}):
            chosen = [sample for sample in samples["scaling"] if sample["by"] == by and sample["at"] == at]
            rate = float(np.median([sample["texts"] / sample["seconds"] for sample in chosen]))
            figures.setdefault(by, {})[str(at)] = {"texts_per_second": rate}
            if by == "length":
                singles = np.concatenate([sample["singles"] for sample in chosen]) * 1000
                figures[by][str(at)] |= {
                    "tokens_per_second": rate * at,
                    "share_of_peak": share_of_peak(name, rate * at, head),
                    "single_p50_ms": float(np.percentile(singles, 50)),
                    "single_p99_ms": float(np.percentile(singles, 99)),
                }
    return {"scaling": figures}


def _latest_sample(scenario: str) -> Callable[..., dict[str, Any]]:
    return lambda name, samples, head: {scenario: samples[scenario][-1]}


SCENARIO_FIGURES: dict[str, Callable[..., dict[str, Any]]] = {
    "bulk": _bulk_figures,
    "single": _single_figures,
    "stages": _latest_sample("stages"),
    "cold": _cold_start_figures,
    "memory": _latest_sample("memory"),
    "size": _latest_sample("size"),
    "scaling": _scaling_figures,
    "server": lambda name, samples, head: {"server": list(samples["server"])},
}
"""Computes the figures of each scenario."""
