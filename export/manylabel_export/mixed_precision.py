"""Brings a variant within its budget: what does most harm stays in fp32.

The harm of a product is measured: the error of the model where it alone is rounded, on a few of the texts. The worst
ones are kept, 1, 2, 4 and so on, until the budget holds on all texts, and then as few of them as it takes.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from time import perf_counter

import numpy as np

from manylabel.bundle.bundle import Rescue
from manylabel.bundle.certificate import Budget
from manylabel.errors import BudgetExceeded, NonFiniteScore
from manylabel_export.evaluator import Judge, Judged, open_graph, scores_of
from manylabel_export.graph.build import Graph
from manylabel_export.graph.passes.fusion import CPU

RUNS = 48
"""Runs to rank the products by. BERT-base has 73, which go in pairs and threes then, the worst of them one by one."""

SAMPLE_TOKENS, SAMPLE_TEXTS = 4096, 16
"""A run's texts have about so many tokens, and are at least so many."""

KEPT_AT_MOST = 0.5
"""Share of the weights that may stay in fp32. With more the variant is hardly smaller or faster than fp32."""

ROUNDS = 3
"""Times that speed is measured; the best counts."""

logger = logging.getLogger("manylabel.export")


def within_budget(made: Graph, judge: Judge, budget: Budget | None) -> Judged:
    """A variant as it is, or rescued.

    Args:
        made: Not the fp32 graph.
        judge: The texts.
        budget: None: there are the probes alone.

    Raises:
        BudgetExceeded: It is beyond its budget, answers a probe wrongly or gives a probability that is no number, and
            cannot be rescued.
    """
    budget = budget or Budget(None, None)
    plain, reason = _attempt(made, judge, budget)
    if plain is not None and not reason:
        return plain
    logger.info("%s is beyond its budget: %s", made.precision, reason)
    sample = _sample(judge)
    ranking = rank(list(made.products), lambda names: _error(made, names, sample))
    rescued, kept = _fewest(made, ranking, judge, budget)
    slowdown = _time(rescued.made, sample) / _time(made, sample) if made.provider == CPU else None
    rescue = Rescue(reason, tuple(kept), len(ranking), slowdown)
    logger.info(
        "%s is within its budget with %d of %d products in fp32, and %s: %s",
        made.precision, len(kept), len(ranking), rescue.cost, ", ".join(kept),
    )  # fmt: skip
    return replace(rescued, rescue=rescue)


def rank(products: Sequence[str], error: Callable[[Collection[str]], float], *, runs: int = RUNS) -> list[str]:
    """The products by the harm they do, the worst first.

    Args:
        products: In the order of the graph.
        error: The error of the model where these products alone are rounded.
        runs: Calls of `error` at most; where there are more products, they are measured in groups, and the worst groups
            are parted as far as the runs reach.
    """
    parts = len(products) if len(products) <= runs else runs // 2
    bounds = np.linspace(0, len(products), parts + 1).round().astype(int)
    groups = [list(products[start:end]) for start, end in pairwise(bounds)]
    harm = {tuple(group): error(group) / len(group) for group in groups}
    for _ in range((runs - parts) // 2):
        several = [group for group in harm if len(group) > 1]
        if not several:
            break
        worst = max(several, key=harm.__getitem__)
        del harm[worst]
        middle = len(worst) // 2
        harm |= {half: error(half) / len(half) for half in (worst[:middle], worst[middle:])}
    ranked = sorted(harm, key=harm.__getitem__, reverse=True)
    for group in ranked[:5]:
        logger.info("  rounding %s alone moves probabilities by %.1e in the mean", " and ".join(group), harm[group])
    return [name for group in ranked for name in group]


def _fewest(made: Graph, ranking: Sequence[str], judge: Judge, budget: Budget) -> tuple[Judged, Sequence[str]]:
    """The fewest of the worst products by which the budget holds, as far as doubling and halving finds them.

    Raises:
        BudgetExceeded: It does not hold with as many as may be kept.
    """
    most = _most(made, ranking)
    low, high = 0, 1
    best, reason = _keeping(made, ranking[:high], judge, budget)
    while reason and high < most:
        low, high = high, min(2 * high, most)
        best, reason = _keeping(made, ranking[:high], judge, budget)
    if best is None or reason:
        raise BudgetExceeded(
            f"{reason}. That is with {high} of {len(ranking)} products left in fp32, and more would be no "
            f"{made.precision}."
        )
    while high - low > 1:
        middle = (low + high) // 2
        fewer, reason = _keeping(made, ranking[:middle], judge, budget)
        if fewer is None or reason:
            low = middle
        else:
            best, high = fewer, middle
    return best, ranking[:high]


def _most(made: Graph, ranking: Sequence[str]) -> int:
    """How many of the worst products may be kept: their share of the weights is bounded, but one always may."""
    share = np.cumsum([made.products[name] for name in ranking]) / sum(made.products.values())
    return max(1, int((share <= KEPT_AT_MOST).sum()))


def _keeping(made: Graph, names: Sequence[str], judge: Judge, budget: Budget) -> tuple[Judged | None, str]:
    found = _attempt(made.keeping(names), judge, budget)
    logger.info("  with %d in fp32: %s", len(names), found[1] or "within the budget")
    return found


def _attempt(made: Graph, judge: Judge, budget: Budget) -> tuple[Judged | None, str]:
    """A graph judged, and what is beyond its budget; None where it gives no numbers."""
    try:
        judged = judge.judge(made)
    except NonFiniteScore as exc:
        return None, str(exc)
    return judged, "; ".join(filter(None, (budget.excess(judged.parity), judged.wrong and f"it {judged.wrong}")))


def _sample(judge: Judge) -> Judge:
    """The judge of a few texts, drawn at random until they are enough, and of the probes."""
    order = np.random.default_rng(0).permutation(len(judge.encodings))
    tokens = np.cumsum([sum(len(window) for window in judge.encodings[row].windows) for row in order])
    rows = order[: max(SAMPLE_TEXTS, int((tokens <= SAMPLE_TOKENS).sum()))]
    probed = [[probe.probabilities[label] for label in judge.subject.labels] for probe in judge.probes]
    return Judge(
        judge.subject,
        [*(judge.encodings[row] for row in rows), *judge.subject.reader.encode([each.text for each in judge.probes])],
        replace(judge.expected, probabilities=np.concatenate([judge.expected.probabilities[rows], probed])),
        judge.probes,
    )


def _error(made: Graph, names: Collection[str], sample: Judge) -> float:
    """Mean difference of probabilities from PyTorch's where these products alone are rounded."""
    alone = made.keeping(made.products.keys() - set(names))
    try:
        found = scores_of(open_graph(alone), sample.encodings)
    except NonFiniteScore:
        return float("inf")
    return float(np.abs(found - sample.expected.probabilities).mean())


def _time(made: Graph, sample: Judge) -> float:
    """Seconds for the sample, the best of some rounds."""
    session = open_graph(made)
    seconds = []
    for _ in range(ROUNDS):
        started = perf_counter()
        scores_of(session, sample.encodings)
        seconds.append(perf_counter() - started)
    return min(seconds)
