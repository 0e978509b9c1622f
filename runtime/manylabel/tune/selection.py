"""Select a configuration from timings: within the latency limit, and faster than the default by more than noise."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log
from statistics import median

from manylabel.load_options import LoadConfig
from manylabel.tune.benchmark import Measurements, Timing

P99_RISK = 0.05
"""Probability that the true 99th percentile is above its upper bound."""


@dataclass(frozen=True)
class ConfigMetrics:
    """The metrics of one configuration.

    Attributes:
        setting: The configuration.
        texts_per_second: Throughput in bulk, the median of the rounds.
        p50_ms: Median latency of single texts.
        p99_ms: 99th percentile of the latency of single texts.
        p99_bound_ms: Upper 95 % confidence bound of the 99th percentile; the slowest text if there are too few.
        against_usual: Throughput relative to the default configuration, the median of the rounds.
        keeps_limit: Whether `p99_bound_ms` is within the limit.
        faster: Whether it is faster than the default in every round, and by more than noise.
    """

    setting: LoadConfig
    texts_per_second: float
    p50_ms: float
    p99_ms: float
    p99_bound_ms: float
    against_usual: float
    keeps_limit: bool
    faster: bool

    def cost_per_million(self, price_per_hour: float) -> float:
        """Return the cost of a million texts in bulk, in the currency of the price."""
        return price_per_hour / 3600 / self.texts_per_second * 1e6


@dataclass(frozen=True)
class Selection:
    """The selected configuration and the metrics of all.

    Attributes:
        chosen: The configuration to load with; `None` if none keeps the limit.
        usual: The default configuration, which is loaded without a plan.
        noise: The largest relative difference between two timings of the default configuration in a round.
        metrics: The metrics of every configuration, the fastest first.
    """

    chosen: LoadConfig | None
    usual: LoadConfig
    noise: float
    metrics: list[ConfigMetrics]


def select_config(
    measurements: Measurements, default: LoadConfig, *, p99: float | None = None, refused: Container[str] = ()
) -> Selection:
    """Select the fastest configuration in bulk that keeps the limit; the default if the gain is within noise.

    Args:
        measurements: The timings, the default configuration's among them.
        default: What is loaded without a plan.
        p99: The limit: seconds within which 99 % of single texts have to be scored; `None` for no limit.
        refused: Precisions that are not selected, however fast.

    Example:
        >>> default, small = LoadConfig("int8", 2, 512), LoadConfig("int8", 2, 256)
        >>> slow, fast = [Timing((0.002,), 100.0)] * 3, [Timing((0.002,), 120.0)] * 3
        >>> str(select_config(Measurements({default: slow, small: fast}, repeats=slow), default).chosen)
        'int8, 2 threads, batches of 256 tokens'
    """
    first = measurements.timings[default]
    noise = max(max(ratio, 1 / ratio) for ratio in _ratios(measurements.repeats, first)) - 1
    default_rates = [
        median((one.texts_per_second, other.texts_per_second))
        for one, other in zip(first, measurements.repeats, strict=True)
    ]
    metrics = [
        _compute_metrics(config, timings, default_rates, noise, p99) for config, timings in measurements.timings.items()
    ]
    metrics.sort(key=lambda each: -each.against_usual)
    allowed = [each for each in metrics if each.keeps_limit and each.setting.precision not in refused]
    default_allowed = any(each.setting == default for each in allowed)
    better = [each.setting for each in allowed if each.faster or not default_allowed]
    chosen = better[0] if better else default if default_allowed else None
    return Selection(chosen, default, noise, metrics)


def _compute_metrics(
    config: LoadConfig, timings: Sequence[Timing], default_rates: Sequence[float], noise: float, p99: float | None
) -> ConfigMetrics:
    singles = sorted(seconds for timing in timings for seconds in timing.singles)
    ratios = [timing.texts_per_second / rate for timing, rate in zip(timings, default_rates, strict=True)]
    bound = singles[p99_bound_index(len(singles))]
    return ConfigMetrics(
        setting=config,
        texts_per_second=median(timing.texts_per_second for timing in timings),
        p50_ms=1e3 * median(singles),
        p99_ms=1e3 * singles[min(len(singles) - 1, int(0.99 * len(singles)))],
        p99_bound_ms=1e3 * bound,
        against_usual=median(ratios),
        keeps_limit=p99 is None or bound <= p99,
        faster=min(ratios) > 1 and median(ratios) > 1 + noise,
    )


def _ratios(timings: Sequence[Timing], others: Sequence[Timing]) -> list[float]:
    return [one.texts_per_second / other.texts_per_second for one, other in zip(timings, others, strict=True)]


def p99_bound_index(n: int) -> int:
    """Return the index of the order statistic that is an upper 95 % confidence bound of the 99th percentile.

    The percentile is above the `k`-th smallest of `n` observations if at least `k` of them are below it; their number
    is binomial. With fewer than 299 observations, the index of the largest one is returned.

    Example:
        >>> p99_bound_index(100), p99_bound_index(1000)
        (99, 995)
    """
    chance = 0.0
    for below in range(n, 0, -1):
        log_ways = lgamma(n + 1) - lgamma(below + 1) - lgamma(n - below + 1)
        chance += exp(log_ways + below * log(0.99) + (n - below) * log(0.01))
        if chance > P99_RISK:
            return min(below, n - 1)
    return n - 1
