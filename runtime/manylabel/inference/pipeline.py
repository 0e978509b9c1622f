"""The prediction pipeline: an iterable of texts of any length through tokenizer and model, in bounded memory.

The texts are cut into chunks. While the batches of one chunk run, the next is tokenized and the one after is read, so
that a thread that finishes a batch finds more work and no core waits. At most `PREFETCH_CHUNKS` chunks are in each
stage, however long the source is and however slowly its predictions are consumed.

Independent of the model: the functions that tokenize and run are arguments.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from manylabel.inference.length_batching import BATCH_TOKENS, LengthBatches, Probabilities, RunBatch
from manylabel.inference.predictions import PredictionBatch
from manylabel.inference.tokenizer import Encoding, EncodingResult

CHUNK_TEXTS = 4096
"""Texts that are sorted by length together: enough for equal lengths to meet, few enough to keep in memory."""

CHUNK_CHARACTERS = 2_000_000
"""A chunk of long texts ends after this many characters: its token ids stay within some ten megabytes."""

TOKENIZER_BATCH_TEXTS = 256
"""Texts that one thread tokenizes at a time: some milliseconds of work. Fewer are tokenized by the caller."""

PREFETCH_CHUNKS = 2
"""Chunks that are tokenized, and chunks that are run, while one is read or consumed."""

Result = TypeVar("Result")
Tokenize = Callable[[Sequence[object], int], list[EncodingResult]]
"""From texts and the number of the first to the encoding or error of each."""

logger = logging.getLogger("manylabel")


@dataclass(frozen=True)
class Pipeline:
    """The stages that texts pass through.

    Args:
        tokenize: From texts and the number of the first to the encoding or error of each. Called on any thread.
        run: From token ids, shape `(batch, n)`, to probabilities, shape `(batch, n_labels)`. Called on any thread.
        run_single: The same for a single text in one window. Called on the calling thread.
        n_labels: The number of columns of the probabilities.
        executor: Runs both functions; the calling thread does if the executor takes no work.
        max_tokens: Tokens in a batch at most; a longer window is a batch of its own.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> def tokenize(texts, first_row):
        ...     return [Encoding((np.array([len(text)]),), n_tokens=1, truncated=False) for text in texts]
        >>> def run(ids):
        ...     return ids / np.float32(10)
        >>> with ThreadPoolExecutor(1) as executor:
        ...     pipeline = Pipeline(tokenize, run, run, n_labels=1, executor=executor)
        ...     [batch.probabilities.tolist() for batch in pipeline.predict(iter(["12345", ""]))]
        [[[0.5], [0.0]]]
    """

    tokenize: Tokenize
    run: RunBatch
    run_single: RunBatch
    n_labels: int
    executor: Executor
    max_tokens: int = BATCH_TOKENS

    def predict(self, texts: Iterable[object], *, first_row: int = 0) -> Iterator[PredictionBatch]:
        """Yield the predictions for texts, a chunk at a time, in order.

        The source is read on the calling thread, up to three chunks ahead. When the iteration ends early, by an error
        or because the caller closes it, work that has not started is cancelled.

        Args:
            texts: The texts. One that is not a string gets an error in its batch.
            first_row: The number of the first text in error messages.
        """
        executor = InlineFallbackExecutor(self.executor)
        if isinstance(texts, Sequence) and len(texts) == 1:
            yield self._predict_single(texts[0], first_row, executor)
            return
        yield from self._predict(split_into_chunks(texts), first_row, executor)

    def predict_chunks(self, chunks: Iterable[Sequence[object]], *, first_row: int = 0) -> Iterator[PredictionBatch]:
        """Yield a batch of predictions for every chunk of texts, in order, as `predict` does for its own chunks.

        Args:
            chunks: Texts that are sorted by length together; a chunk has at least one.
            first_row: The number of the first text in error messages.
        """
        return self._predict(chunks, first_row, InlineFallbackExecutor(self.executor))

    def _predict(
        self, chunks: Iterable[Sequence[object]], first_row: int, executor: "InlineFallbackExecutor"
    ) -> Iterator[PredictionBatch]:
        with (
            closing(_prefetch(self._start_tokenizing(chunks, first_row, executor))) as tokenized,
            closing(_prefetch(self._start_running(chunk.results(), executor) for chunk in tokenized)) as running,
        ):
            for chunk in running:
                yield chunk.predictions(self.n_labels)

    def _start_tokenizing(
        self, chunks: Iterable[Sequence[object]], first_row: int, executor: "InlineFallbackExecutor"
    ) -> Iterator["_TokenizingChunk"]:
        for chunk in chunks:
            submit = executor.submit if len(chunk) > TOKENIZER_BATCH_TEXTS else executor.run_inline
            starts = range(0, len(chunk), TOKENIZER_BATCH_TEXTS)
            yield _TokenizingChunk(
                [submit(self.tokenize, chunk[at : at + TOKENIZER_BATCH_TEXTS], first_row + at) for at in starts]
            )
            first_row += len(chunk)

    def _start_running(self, results: list[EncodingResult], executor: "InlineFallbackExecutor") -> "_RunningChunk":
        windows = [each.windows if isinstance(each, Encoding) else () for each in results]
        batches = LengthBatches.from_texts(windows, max_tokens=self.max_tokens)
        submit = executor.submit if len(batches.token_ids) > 1 else executor.run_inline
        return _RunningChunk(results, batches, [submit(self.run, ids) for ids in batches.token_ids])

    def _predict_single(self, text: object, row: int, executor: "InlineFallbackExecutor") -> PredictionBatch:
        """Predict for one text. Chunks and threads would add 30 microseconds to the 15 around tokenizer and model."""
        (result,) = self.tokenize([text], row)
        if not isinstance(result, Encoding) or len(result.windows) > 1:
            return self._start_running([result], executor).predictions(self.n_labels)
        return PredictionBatch(
            probabilities=self.run_single(result.windows[0][np.newaxis]),
            n_tokens=np.array([result.n_tokens], dtype=np.int64),
            truncated=np.array([result.truncated], dtype=np.bool_),
            errors={},
        )


def split_into_chunks(texts: Iterable[object]) -> Iterator[list[object]]:
    """Split texts into chunks by number and by characters, always at the same places.

    Example:
        >>> [len(chunk) for chunk in split_into_chunks(["late"] * 5000)]
        [4096, 904]
    """
    chunk: list[object] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text) if isinstance(text, str) else 0
        if len(chunk) == CHUNK_TEXTS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


class InlineFallbackExecutor:
    """Submits work to an executor, and runs it on the calling thread once the executor has refused.

    An executor refuses work while the interpreter shuts down, or if the system allows no more threads.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> executor = ThreadPoolExecutor(1)
        >>> executor.shutdown()
        >>> InlineFallbackExecutor(executor).submit(len, "late").result()
        4
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._refused = False

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Call a function on another thread if possible."""
        if not self._refused:
            try:
                return self._executor.submit(function, *arguments)
            except RuntimeError as exc:
                logger.warning("continuing on one thread: %s", exc)
                self._refused = True
        return self.run_inline(function, *arguments)

    def run_inline(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Call a function on the calling thread, which is faster for a small piece of work."""
        future: Future[Result] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as exc:  # raised by result(), as an executor does
            future.set_exception(exc)
        return future


class _Started(Protocol):
    def cancel(self) -> None: ...


Started = TypeVar("Started", bound=_Started)


def _prefetch(started: Iterable[Started]) -> Generator[Started, None, None]:
    """Yield started work in order, with `PREFETCH_CHUNKS` pieces under way; cancel what is left when closed."""
    under_way: deque[Started] = deque()
    try:
        for each in started:
            under_way.append(each)
            if len(under_way) == PREFETCH_CHUNKS:
                yield under_way[0]
                under_way.popleft()
        while under_way:
            yield under_way[0]
            under_way.popleft()
    finally:
        for each in under_way:
            each.cancel()


@dataclass(frozen=True)
class _TokenizingChunk:
    """A chunk that is being tokenized, in parts."""

    parts: "list[Future[list[EncodingResult]]]"

    def results(self) -> list[EncodingResult]:
        return [result for part in self.parts for result in part.result()]

    def cancel(self) -> None:
        for part in self.parts:
            part.cancel()


@dataclass(frozen=True)
class _RunningChunk:
    """A chunk whose batches are being run."""

    results: list[EncodingResult]
    batches: LengthBatches
    probabilities: "list[Future[Probabilities]]"

    def predictions(self, n_labels: int) -> PredictionBatch:
        probabilities = self.batches.max_over_windows((each.result() for each in self.probabilities), n_labels=n_labels)
        encodings = [each if isinstance(each, Encoding) else None for each in self.results]
        return PredictionBatch(
            probabilities=probabilities,
            n_tokens=np.array([each.n_tokens if each else 0 for each in encodings], dtype=np.int64),
            truncated=np.array([each is not None and each.truncated for each in encodings], dtype=np.bool_),
            errors={place: each for place, each in enumerate(self.results) if not isinstance(each, Encoding)},
        )

    def cancel(self) -> None:
        for each in self.probabilities:
            each.cancel()
