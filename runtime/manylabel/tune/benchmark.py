"""The benchmark of `manylabel tune`: every configuration once in each round, so that other load affects all alike."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.certificate import Budget
from manylabel.bundle.variants import variants_for
from manylabel.classifier import Classifier
from manylabel.inference.length_batching import DEFAULT_BATCH_TOKENS
from manylabel.load_options import LoadConfig

BATCH_SIZE_FACTORS = (0.5, 1, 2)
"""Batch sizes to try, as multiples of the default."""


@dataclass(frozen=True)
class Timing:
    """The timing of one configuration in one round.

    Attributes:
        singles: Seconds for each single text, one after the other.
        texts_per_second: Throughput of many texts at once.
    """

    singles: tuple[float, ...]
    texts_per_second: float


Timer = Callable[[LoadConfig, Sequence[str], Sequence[str]], Timing]
"""Measures a configuration on single texts and on texts in bulk."""


@dataclass(frozen=True)
class Measurements:
    """All timings.

    Attributes:
        timings: For every configuration, one timing per round.
        repeats: The second timing of the default configuration in each round, which shows the noise.
    """

    timings: dict[LoadConfig, list[Timing]]
    repeats: list[Timing]


def list_candidates(
    bundle: Bundle,
    device: Literal["cpu", "cuda"],
    cores: int,
    refused: Mapping[str, str],
    *,
    cuda_graphs: bool = False,
) -> list[LoadConfig]:
    """Return every combination of precision, threads and batch size that is worth measuring.

    Threads are all cores and half of them, as two logical cores may share the units of one physical core.

    Args:
        bundle: The bundle.
        device: The device it will run on.
        cores: The number of available cores.
        refused: Precisions to leave out, with the reason.
        cuda_graphs: Whether to try every combination with CUDA graphs, too.
    """
    precisions = [each.precision for each in variants_for(bundle, device) if each.precision not in refused]
    batch_sizes = [int(factor * DEFAULT_BATCH_TOKENS[device]) for factor in BATCH_SIZE_FACTORS]
    threads = sorted({cores, max(1, cores // 2)})
    graphs = (False, True) if cuda_graphs else (False,)
    return [LoadConfig(*values) for values in product(precisions, threads, batch_sizes, graphs)]


def find_over_budget(bundle: Bundle) -> dict[str, str]:
    """Return the precisions that exceed the bundle's accuracy budget, with the reason.

    If the bundle was exported without a budget, the default budget applies.
    """
    certificate = bundle.manifest.certificate
    budget = certificate.budget or Budget()
    return {precision: excess for precision, parity in certificate.parity.items() if (excess := budget.excess(parity))}


def measure_configs(
    configs: Sequence[LoadConfig],
    default: LoadConfig,
    texts: Sequence[str],
    timer: Timer,
    *,
    rounds: int,
    singles: int,
    progress: Callable[[], object] = lambda: None,
) -> Measurements:
    """Measure every configuration once in each round, in changing order, and the default one twice.

    Args:
        configs: The configurations, `default` among them.
        default: What is loaded without a plan.
        texts: The texts to score in bulk. Single texts are taken from them in turn; within a round all configurations
            get the same ones.
        timer: Measures one configuration.
        rounds: The number of rounds.
        singles: The number of single texts in a round.
        progress: Called after every timing.
    """
    measurements = Measurements({config: [] for config in configs}, [])
    order = random.Random(0)  # noqa: S311  # an order, not a secret
    for number in range(rounds):
        single_texts = [texts[index % len(texts)] for index in range(number * singles, (number + 1) * singles)]
        turns = [(config, measurements.timings[config]) for config in configs] + [(default, measurements.repeats)]
        order.shuffle(turns)
        for config, timings in turns:
            timings.append(timer(config, single_texts, texts))
            progress()
    return measurements


def make_timer(load: Callable[[LoadConfig], Classifier]) -> Timer:
    """Return a timer that loads a classifier for each timing, so that only one is in memory.

    It scores the single texts once before measuring: the first call allocates memory, and after a few calls the
    classifier uses several cores for one text.
    """

    def measure(config: LoadConfig, single_texts: Sequence[str], texts: Sequence[str]) -> Timing:
        classifier = load(config)
        for text in single_texts:
            classifier.predict_proba(text)
        singles = tuple(_time_singles(classifier, single_texts))
        start = time.perf_counter()
        classifier.predict_proba(texts)
        return Timing(singles, len(texts) / (time.perf_counter() - start))

    return measure


def _time_singles(classifier: Classifier, texts: Sequence[str]) -> Iterator[float]:
    for text in texts:
        start = time.perf_counter()
        classifier.predict_proba(text)
        yield time.perf_counter() - start
