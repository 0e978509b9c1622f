"""Times of settings, measured in turns: whatever else the machine does falls on all of them alike."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from manylabel.classifier import Classifier
from manylabel.load_options import Setting


@dataclass(frozen=True)
class Turn:
    """What one setting took in one round.

    Attributes:
        singles: Seconds of single texts, one after the other.
        texts_per_second: Of many texts at once.
    """

    singles: tuple[float, ...]
    texts_per_second: float


Times = dict[Setting, list[Turn]]
"""By setting, a turn a round."""

Measure = Callable[[Setting, Sequence[str], Sequence[str]], Turn]
"""From a setting, single texts and texts in bulk to what they took."""


@dataclass(frozen=True)
class Measured:
    """All turns.

    Attributes:
        times: Of every setting, the usual one among them.
        again: The usual one's second turns, by which noise is told.
    """

    times: Times
    again: list[Turn]


def measure_all(
    settings: Sequence[Setting],
    usual: Setting,
    texts: Sequence[str],
    measure: Measure,
    *,
    rounds: int,
    singles: int,
    done: Callable[[], object] = lambda: None,
) -> Measured:
    """Measure every setting once a round, in an order that changes, and the usual one twice.

    Args:
        settings: With `usual` among them.
        usual: What would be loaded without a plan.
        texts: What is asked in bulk; single ones are taken in turn from them, in a round the same for all.
        measure: Takes the time.
        rounds: How often.
        singles: Single texts a round.
        done: Called after every turn.
    """
    found = Measured({setting: [] for setting in settings}, [])
    order = random.Random(0)  # noqa: S311  # an order, not a secret
    for number in range(rounds):
        alone = [texts[at % len(texts)] for at in range(number * singles, (number + 1) * singles)]
        turns = [(setting, found.times[setting]) for setting in settings] + [(usual, found.again)]
        order.shuffle(turns)
        for setting, into in turns:
            into.append(measure(setting, alone, texts))
            done()
    return found


def measuring(load: Callable[[Setting], Classifier]) -> Measure:
    """Takes times of a classifier that is loaded for the turn: no more than one is in memory.

    The single texts are answered once before: a first call allocates, and after some the classifier puts several cores
    to one text.
    """

    def measure(setting: Setting, alone: Sequence[str], texts: Sequence[str]) -> Turn:
        classifier = load(setting)
        for text in alone:
            classifier.predict_proba(text)
        singles = tuple(_seconds(classifier, alone))
        start = time.perf_counter()
        classifier.predict_proba(texts)
        return Turn(singles, len(texts) / (time.perf_counter() - start))

    return measure


def _seconds(classifier: Classifier, texts: Sequence[str]) -> Iterator[float]:
    for text in texts:
        start = time.perf_counter()
        classifier.predict_proba(text)
        yield time.perf_counter() - start
