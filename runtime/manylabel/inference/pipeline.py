"""Texts without end through tokeniser and model, both at work at once, answers in order, in bounded memory.

A stream is cut into windows. While the batches of one run, the next is tokenised and the one after is read, so that a
thread that is through with its batch finds another piece of work and no core waits. No more than `AHEAD` windows are
held, however long the stream is and whoever reads its answers slowly.

Knows nothing of models: functions that tokenise and run are handed in.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from manylabel.inference.length_batching import BATCH_TOKENS, Ids, Scores, Work
from manylabel.inference.predictions import PredictionBatch
from manylabel.inference.tokenizer import Encoding, Outcome

WINDOW_TEXTS = 4096
"""Texts that are sorted by length together: enough that equal lengths meet, few enough to hold."""

WINDOW_CHARACTERS = 2_000_000
"""A window of long texts ends after as many characters: their ids stay within some ten megabytes."""

PIECE_TEXTS = 256
"""Texts that one thread tokenises at a time: some milliseconds of work. Fewer are tokenised by the caller."""

AHEAD = 2
"""Windows that are tokenised or run while one is read or handed out."""

Result = TypeVar("Result")
logger = logging.getLogger("manylabel")


def stream(
    texts: Iterable[object],
    *,
    tokenise: Callable[[Sequence[object], int], list[Outcome]],
    run: Callable[[Ids], Scores],
    run_alone: Callable[[Ids], Scores],
    n_labels: int,
    threads: Executor,
    max_tokens: int = BATCH_TOKENS,
    first_row: int = 0,
) -> Iterator[PredictionBatch]:
    """PredictionBatch to texts, a window at a time, in order.

    The source is read on the caller's thread, up to three windows ahead. Whatever ends the stream early, an error or a
    caller who has heard enough, takes back the work that has not begun.

    Args:
        texts: What should be texts; one that is none has its error in the answers.
        tokenise: From texts and the first one's number to what becomes of each. Called on any thread.
        run: Ids of shape `(batch, n)` to probabilities of shape `(batch, n_labels)`. Called on any thread.
        run_alone: The same for a text that comes alone, in one window. Called on the caller's thread.
        n_labels: Columns of the probabilities.
        first_row: The number by which an error calls the first text.
        max_tokens: Tokens in a batch at most; a longer window goes alone.
        threads: Where both are called; on the caller's thread where it takes no work.
    """
    hands = Hands(threads)
    if isinstance(texts, Sequence) and len(texts) == 1:
        yield _alone(texts[0], first_row, tokenise, run, run_alone, hands, n_labels, max_tokens)
        return
    tokenised: deque[_Tokenised] = deque()
    running: deque[_Running] = deque()
    try:
        for window in windows(texts):
            tokenised.append(_Tokenised.start(window, first_row, tokenise, hands))
            first_row += len(window)
            if len(tokenised) == AHEAD:
                running.append(_Running.start(tokenised[0].outcomes(), run, hands, max_tokens))
                tokenised.popleft()
            if len(running) == AHEAD:
                yield running[0].answers(n_labels)
                running.popleft()
        while tokenised:
            running.append(_Running.start(tokenised[0].outcomes(), run, hands, max_tokens))
            tokenised.popleft()
        while running:
            yield running[0].answers(n_labels)
            running.popleft()
    finally:
        unwanted: list[Future[Any]] = [piece for left in tokenised for piece in left.pieces]
        for future in (*unwanted, *(scores for left in running for scores in left.scores)):
            future.cancel()


def windows(texts: Iterable[object]) -> Iterator[list[object]]:
    """Cut texts into windows, the same ones every time, by number and by characters."""
    window: list[object] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text) if isinstance(text, str) else 0
        if len(window) == WINDOW_TEXTS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _alone(
    text: object,
    row: int,
    tokenise: Callable[[Sequence[object], int], list[Outcome]],
    run: Callable[[Ids], Scores],
    run_alone: Callable[[Ids], Scores],
    hands: "Hands",
    n_labels: int,
    max_tokens: int,
) -> PredictionBatch:
    """The answer to one text. Windows and threads would add 30 microseconds to the 15 around tokeniser and run."""
    (outcome,) = tokenise([text], row)
    if not isinstance(outcome, Encoding) or len(outcome.windows) > 1:
        return _Running.start([outcome], run, hands, max_tokens).answers(n_labels)
    return PredictionBatch(
        probabilities=run_alone(outcome.windows[0][np.newaxis]),
        n_tokens=np.array([outcome.n_tokens], dtype=np.int64),
        truncated=np.array([outcome.truncated], dtype=np.bool_),
        errors={},
    )


class Hands:
    """Threads that work; from the first time that they are refused, the caller's own."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._refused = False

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Call on another thread."""
        if not self._refused:
            try:
                return self._threads.submit(function, *arguments)
            except RuntimeError as exc:  # the interpreter is shutting down, or the system grants no more threads
                logger.warning("answering on one thread: %s", exc)
                self._refused = True
        return self.do(function, *arguments)

    def do(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Call at once, on this thread: spares a small piece of work the way to another."""
        future: Future[Result] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as exc:  # handed to whoever asks for the result, as an executor does
            future.set_exception(exc)
        return future


@dataclass(frozen=True)
class _Tokenised:
    """A window that is being tokenised, in pieces."""

    pieces: "list[Future[list[Outcome]]]"

    @classmethod
    def start(
        cls,
        window: Sequence[object],
        first_row: int,
        tokenise: Callable[[Sequence[object], int], list[Outcome]],
        hands: Hands,
    ) -> "_Tokenised":
        submit = hands.submit if len(window) > PIECE_TEXTS else hands.do
        starts = range(0, len(window), PIECE_TEXTS)
        return cls([submit(tokenise, window[at : at + PIECE_TEXTS], first_row + at) for at in starts])

    def outcomes(self) -> list[Outcome]:
        return [outcome for piece in self.pieces for outcome in piece.result()]


@dataclass(frozen=True)
class _Running:
    """A window whose batches are being run."""

    outcomes: list[Outcome]
    work: Work
    scores: "list[Future[Scores]]"

    @classmethod
    def start(cls, outcomes: list[Outcome], run: Callable[[Ids], Scores], hands: Hands, max_tokens: int) -> "_Running":
        windows = [each.windows if isinstance(each, Encoding) else () for each in outcomes]
        work = Work.of(windows, max_tokens=max_tokens)
        submit = hands.submit if len(work.batches) > 1 else hands.do
        return cls(outcomes, work, [submit(run, ids) for ids in work.batches])

    def answers(self, n_labels: int) -> PredictionBatch:
        probabilities = self.work.gather((future.result() for future in self.scores), n_labels=n_labels)
        read = [each if isinstance(each, Encoding) else None for each in self.outcomes]
        return PredictionBatch(
            probabilities=probabilities,
            n_tokens=np.array([each.n_tokens if each else 0 for each in read], dtype=np.int64),
            truncated=np.array([each is not None and each.truncated for each in read], dtype=np.bool_),
            errors={place: each for place, each in enumerate(self.outcomes) if not isinstance(each, Encoding)},
        )
