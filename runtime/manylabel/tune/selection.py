"""Times in, a choice out: what keeps the limit, and is faster than what would run anyway by more than noise."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log
from statistics import median

from manylabel.load_options import Setting
from manylabel.tune.benchmark import Measured, Turn

SURE = 0.05
"""How often the bound of a p99 may lie below it."""


@dataclass(frozen=True)
class Figures:
    """A setting's.

    Attributes:
        setting: Which.
        texts_per_second: In bulk, the median of the rounds.
        p50_ms: Of single texts.
        p99_ms: Of single texts.
        p99_bound_ms: With 95 % confidence the p99 is not above; the slowest text where these are too few to tell.
        against_usual: How many times as many texts a second as the usual setting, the median of the rounds.
        keeps_limit: Whether `p99_bound_ms` is within the limit.
        faster: Whether it is faster than the usual one in every round, and by more than noise.
    """

    setting: Setting
    texts_per_second: float
    p50_ms: float
    p99_ms: float
    p99_bound_ms: float
    against_usual: float
    keeps_limit: bool
    faster: bool

    def cost_per_million(self, price_per_hour: float) -> float:
        """What a million texts cost in bulk, in the currency of the price."""
        return price_per_hour / 3600 / self.texts_per_second * 1e6


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        chosen: The setting to load with, or None where none keeps the limit.
        usual: What would be loaded without a plan.
        noise: By which share the usual setting differs from itself at most, from turn to turn of a round.
        figures: Of every setting, the fastest first.
    """

    chosen: Setting | None
    usual: Setting
    noise: float
    figures: list[Figures]


def choose(measured: Measured, usual: Setting, *, p99: float | None = None, refused: Container[str] = ()) -> Choice:
    """The fastest in bulk of those that keep the limit; the usual one, where none is faster beyond noise.

    Args:
        measured: With the usual setting among them.
        usual: What would be loaded without a plan.
        p99: Seconds within which 99 % of single texts have to be answered; None for no limit.
        refused: Precisions that are not to be chosen, however fast.
    """
    before = measured.times[usual]
    noise = max(max(ratio, 1 / ratio) for ratio in _ratios(measured.again, before)) - 1
    both = [
        median((one.texts_per_second, other.texts_per_second))
        for one, other in zip(before, measured.again, strict=True)
    ]
    figures = [_figures(setting, turns, both, noise, p99) for setting, turns in measured.times.items()]
    figures.sort(key=lambda each: -each.against_usual)
    kept = [each for each in figures if each.keeps_limit and each.setting.precision not in refused]
    stays = any(each.setting == usual for each in kept)
    better = [each.setting for each in kept if each.faster or not stays]
    chosen = better[0] if better else usual if stays else None
    return Choice(chosen, usual, noise, figures)


def _figures(
    setting: Setting, turns: Sequence[Turn], usual: Sequence[float], noise: float, p99: float | None
) -> Figures:
    singles = sorted(seconds for turn in turns for seconds in turn.singles)
    ratios = [turn.texts_per_second / other for turn, other in zip(turns, usual, strict=True)]
    bound = singles[_bound(len(singles))]
    return Figures(
        setting=setting,
        texts_per_second=median(turn.texts_per_second for turn in turns),
        p50_ms=1e3 * median(singles),
        p99_ms=1e3 * singles[min(len(singles) - 1, int(0.99 * len(singles)))],
        p99_bound_ms=1e3 * bound,
        against_usual=median(ratios),
        keeps_limit=p99 is None or bound <= p99,
        faster=min(ratios) > 1 and median(ratios) > 1 + noise,
    )


def _ratios(turns: Sequence[Turn], others: Sequence[Turn]) -> list[float]:
    return [one.texts_per_second / other.texts_per_second for one, other in zip(turns, others, strict=True)]


def _bound(n: int) -> int:
    """The place, in order and from 0, of the first of `n` observations that the 99th percentile is rarely above.

    Of order statistics: it is above the `k`-th where `k` or more lie below it, which is binomial.
    """
    chance = 0.0
    for below in range(n, 0, -1):
        ways = lgamma(n + 1) - lgamma(below + 1) - lgamma(n - below + 1)
        chance += exp(ways + below * log(0.99) + (n - below) * log(0.01))
        if chance > SURE:
            return min(below, n - 1)
    return n - 1
