"""Mixed precision: bring a variant within its accuracy budget by keeping its most harmful layers in fp32.

The harm of a layer is measured: the error of the model with only this layer rounded, on a sample of the texts. The most
harmful layers are kept in fp32, 1, 2, 4 and so on, until the variant is within its budget on all texts; a bisection
then finds the smallest sufficient number.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from time import perf_counter

import numpy as np

from manylabel.bundle.bundle import MixedPrecision
from manylabel.bundle.certificate import Budget
from manylabel.errors import BudgetExceeded, NonFiniteScore
from manylabel_export.evaluator import EvaluatedGraph, ParityEvaluator, open_runtime_session, score_encodings
from manylabel_export.graph.build import Graph
from manylabel_export.graph.passes.fusion import CPU

MAX_RUNS = 48
"""Runs for ranking the layers. BERT-base has 73: they are measured in groups of two and three, the worst one by one."""

SAMPLE_TOKENS, SAMPLE_TEXTS = 4096, 16
"""The sample for ranking and timing has about this many tokens, and at least this many texts."""

MAX_FP32_SHARE = 0.5
"""Share of the weights that may stay in fp32. With more, the variant is hardly smaller or faster than fp32."""

ROUNDS = 3
"""Repetitions of a time measurement; the best counts."""

logger = logging.getLogger("manylabel.export")


def keep_within_budget(graph: Graph, evaluator: ParityEvaluator, budget: Budget | None) -> EvaluatedGraph:
    """Evaluate a variant, and keep layers in fp32 if it exceeds its budget.

    Args:
        graph: A graph other than fp32.
        evaluator: The model and its texts.
        budget: How far the variant may differ from PyTorch; None: only the probes are checked.

    Raises:
        BudgetExceeded: It exceeds its budget, fails a probe, or returns NaN or infinity, even with as many layers in
            fp32 as allowed.
    """
    budget = budget or Budget(None, None)
    evaluated, reason = _evaluate(graph, evaluator, budget)
    if evaluated is not None and not reason:
        return evaluated
    logger.info("%s exceeds its budget: %s", graph.precision, reason)
    sample = _sample(evaluator)
    ranking = rank_layers(list(graph.layer_sizes), lambda names: _rounding_error(graph, names, sample))
    evaluated, kept = _keep_fewest(graph, ranking, evaluator, budget)
    slowdown = _measure_time(evaluated.graph, sample) / _measure_time(graph, sample) if graph.provider == CPU else None
    mixed_precision = MixedPrecision(reason, tuple(kept), len(ranking), slowdown)
    logger.info(
        "%s is within its budget with %d of %d layers in fp32, and %s: %s",
        graph.precision, len(kept), len(ranking), mixed_precision.cost, ", ".join(kept),
    )  # fmt: skip
    return replace(evaluated, mixed_precision=mixed_precision)


def rank_layers(
    layers: Sequence[str], error: Callable[[Collection[str]], float], *, max_runs: int = MAX_RUNS
) -> list[str]:
    """Rank layers by the error that rounding them causes, the most harmful first.

    Args:
        layers: The layers in the order of the graph.
        error: Returns the error of the model with only these layers rounded.
        max_runs: Maximum number of calls of `error`. More layers than that are measured in groups, and the worst groups
            are halved as long as calls are left.

    >>> harm = {"query": 0.1, "key": 0.0, "dense": 0.9}
    >>> rank_layers(list(harm), lambda names: sum(harm[name] for name in names))
    ['dense', 'query', 'key']
    """
    parts = len(layers) if len(layers) <= max_runs else max_runs // 2
    bounds = np.linspace(0, len(layers), parts + 1).round().astype(int)
    groups = [list(layers[start:end]) for start, end in pairwise(bounds)]
    harm = {tuple(group): error(group) / len(group) for group in groups}
    for _ in range((max_runs - parts) // 2):
        divisible = [group for group in harm if len(group) > 1]
        if not divisible:
            break
        worst = max(divisible, key=harm.__getitem__)
        del harm[worst]
        middle = len(worst) // 2
        harm |= {half: error(half) / len(half) for half in (worst[:middle], worst[middle:])}
    ranked = sorted(harm, key=harm.__getitem__, reverse=True)
    for group in ranked[:5]:
        logger.info("  rounding only %s changes probabilities by %.1e on average", " and ".join(group), harm[group])
    return [name for group in ranked for name in group]


def _keep_fewest(
    graph: Graph, ranking: Sequence[str], evaluator: ParityEvaluator, budget: Budget
) -> tuple[EvaluatedGraph, Sequence[str]]:
    """Find the smallest number of layers in fp32 that suffices, by doubling and bisection.

    Raises:
        BudgetExceeded: The allowed number of layers does not suffice.
    """
    most = _max_fp32_layers(graph, ranking)
    low, high = 0, 1
    best, reason = _evaluate_with_fp32_layers(graph, ranking[:high], evaluator, budget)
    while reason and high < most:
        low, high = high, min(2 * high, most)
        best, reason = _evaluate_with_fp32_layers(graph, ranking[:high], evaluator, budget)
    if best is None or reason:
        raise BudgetExceeded(
            f"{reason}. This is with {high} of {len(ranking)} layers in fp32; with more of them "
            f"{graph.precision} would have no advantage over fp32."
        )
    while high - low > 1:
        middle = (low + high) // 2
        fewer, reason = _evaluate_with_fp32_layers(graph, ranking[:middle], evaluator, budget)
        if fewer is None or reason:
            low = middle
        else:
            best, high = fewer, middle
    return best, ranking[:high]


def _max_fp32_layers(graph: Graph, ranking: Sequence[str]) -> int:
    """Return how many of the worst layers may stay in fp32: their share of the weights is limited, one always may."""
    share = np.cumsum([graph.layer_sizes[name] for name in ranking]) / sum(graph.layer_sizes.values())
    return max(1, int((share <= MAX_FP32_SHARE).sum()))


def _evaluate_with_fp32_layers(
    graph: Graph, names: Sequence[str], evaluator: ParityEvaluator, budget: Budget
) -> tuple[EvaluatedGraph | None, str]:
    evaluated, reason = _evaluate(graph.with_fp32_layers(names), evaluator, budget)
    logger.info("  with %d in fp32: %s", len(names), reason or "within the budget")
    return evaluated, reason


def _evaluate(graph: Graph, evaluator: ParityEvaluator, budget: Budget) -> tuple[EvaluatedGraph | None, str]:
    """Evaluate a graph.

    Returns:
        The evaluated graph, None if it returns NaN or infinity; and why it is not good enough, "" if it is.
    """
    try:
        evaluated = evaluator.evaluate(graph)
    except NonFiniteScore as exc:
        return None, str(exc)
    failure = evaluated.probe_failure and f"it {evaluated.probe_failure}"
    return evaluated, "; ".join(filter(None, (budget.excess(evaluated.parity), failure)))


def _sample(evaluator: ParityEvaluator) -> ParityEvaluator:
    """Return an evaluator on a random sample of the texts and all probes."""
    order = np.random.default_rng(0).permutation(len(evaluator.encodings))
    tokens = np.cumsum([sum(len(window) for window in evaluator.encodings[row].windows) for row in order])
    rows = order[: max(SAMPLE_TEXTS, int((tokens <= SAMPLE_TOKENS).sum()))]
    probes = evaluator.source.runtime_tokenizer.encode([probe.text for probe in evaluator.probes])
    probe_scores = [[probe.probabilities[label] for label in evaluator.source.labels] for probe in evaluator.probes]
    scores = np.concatenate([evaluator.expected.probabilities[rows], probe_scores])
    return ParityEvaluator(
        evaluator.source,
        [*(evaluator.encodings[row] for row in rows), *probes],
        replace(evaluator.expected, probabilities=scores),
        evaluator.probes,
    )


def _rounding_error(graph: Graph, names: Collection[str], sample: ParityEvaluator) -> float:
    """Return the mean difference of probabilities from PyTorch's with only these layers rounded."""
    rounded = graph.with_fp32_layers(graph.layer_sizes.keys() - set(names))
    try:
        scores = score_encodings(open_runtime_session(rounded), sample.encodings)
    except NonFiniteScore:
        return float("inf")
    return float(np.abs(scores - sample.expected.probabilities).mean())


def _measure_time(graph: Graph, sample: ParityEvaluator) -> float:
    """Return the seconds that the sample takes, the best of some rounds."""
    session = open_runtime_session(graph)
    seconds = []
    for _ in range(ROUNDS):
        started = perf_counter()
        score_encodings(session, sample.encodings)
        seconds.append(perf_counter() - started)
    return min(seconds)
