"""Low latency for a single text: a second session whose threads share one call.

For many texts, one call per core is fastest. A single text would leave the other cores idle; a session whose threads
share its call takes a half to four fifths of the time. It keeps a second copy of the weights in memory, so it is opened
only for a caller that sends single texts repeatedly, and in the background.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Lock

from manylabel.inference.length_batching import Probabilities, RunBatch, TokenIds

CALLS_BEFORE_OPENING = 8
"""Single texts before the second session is opened: more than a command sends, fewer than a service in a second."""

MAX_THREADS = 4
"""Threads that share a text. Two were faster than one at every length from 8 to 512 tokens (`make results-engine`, two
cores); more than four were not tried, and a text of twenty tokens has little to share."""

logger = logging.getLogger("manylabel")


class LatencySession:
    """Runs a batch on one core, or on several if no other call is under way. Thread-safe.

    Args:
        run: Runs on the calling thread.
        open_multithreaded: Returns what runs on several threads and computes the same bits. May be slow and may fail.
        executor: Where `open_multithreaded` is called.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import numpy as np
        >>> run = lambda ids: np.full((len(ids), 2), 0.5, dtype=np.float32)
        >>> with ThreadPoolExecutor(1) as executor:
        ...     LatencySession(run, lambda: run, executor).run(np.array([[2, 7, 3]])).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, run: RunBatch, open_multithreaded: Callable[[], RunBatch], executor: Executor) -> None:
        self._run_on_one_core, self._open_multithreaded, self._executor = run, open_multithreaded, executor
        self._multithreaded: Future[RunBatch] | None = None
        self._lock = Lock()
        self._calls = self._calls_under_way = 0

    def run(self, ids: TokenIds) -> Probabilities:
        """Return the probabilities of a batch, shape `(batch, n_labels)`."""
        with self._lock:
            run = self._choose()
            self._calls += 1
            self._calls_under_way += 1
            if self._calls == CALLS_BEFORE_OPENING:
                self._multithreaded = self._start_opening()
        try:
            return run(ids)
        finally:
            with self._lock:
                self._calls_under_way -= 1

    def _choose(self) -> RunBatch:
        opened = self._multithreaded
        if self._calls_under_way or opened is None or not opened.done():
            return self._run_on_one_core
        if opened.cancelled() or opened.exception():
            return self._run_on_one_core
        return opened.result()

    def _start_opening(self) -> "Future[RunBatch] | None":
        try:
            return self._executor.submit(self._open)
        except RuntimeError:  # the interpreter is shutting down, or the system allows no more threads
            return None

    def _open(self) -> RunBatch:
        try:
            return self._open_multithreaded()
        except Exception as exc:  # such as the bundle's folder being gone, or the system being out of memory
            logger.warning("single texts stay on one core: %s", exc)
            raise
