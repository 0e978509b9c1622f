"""One text on several cores: what a text that comes alone is run by, knowing nothing of models.

For many texts one call a core is fastest. A text that comes alone leaves the other cores idle, and a second session
whose threads share each call answers it in half to four fifths of the time. It holds the weights once more, so it is
opened only for who asks so again and again, and beside the work.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Lock

from manylabel.inference.length_batching import Ids, Scores

OFTEN = 8
"""Texts that come alone before it is worth while: more than a command line asks, fewer than a service in a second."""

MOST_THREADS = 4
"""For one text. Two were faster than one at every length from 8 to 512 tokens (`make results-engine`, two
cores); more than four were not tried, and a text of twenty tokens has little to share."""

Run = Callable[[Ids], Scores]
logger = logging.getLogger("manylabel")


class Alone:
    """Runs a batch on one core, or on several where no other call is under way. May be called from several threads.

    Args:
        narrow: Runs on the thread that calls.
        open_wide: Gives what runs on several, the same bits; it may take its time and may fail.
        threads: Where it is called.
    """

    def __init__(self, narrow: Run, open_wide: Callable[[], Run], threads: Executor) -> None:
        self._narrow, self._open_wide, self._threads = narrow, open_wide, threads
        self._wide: Future[Run] | None = None
        self._lock = Lock()
        self._asked = self._under_way = 0

    def run(self, ids: Ids) -> Scores:
        """Scores of a batch, as `narrow` gives them."""
        with self._lock:
            first, self._under_way, self._asked = not self._under_way, self._under_way + 1, self._asked + 1
            wide = self._wide
            if self._asked == OFTEN:
                self._wide = self._start()
        try:
            return (wide.result() if first and wide and _is_open(wide) else self._narrow)(ids)
        finally:
            with self._lock:
                self._under_way -= 1

    def _start(self) -> "Future[Run] | None":
        try:
            return self._threads.submit(self._open)
        except RuntimeError:  # the interpreter is shutting down, or the system grants no more threads
            return None

    def _open(self) -> Run:
        try:
            return self._open_wide()
        except Exception as exc:  # of the bundle's folder, which may be gone, or of the system
            logger.warning("a text that comes alone stays on one core: %s", exc)
            raise


def _is_open(wide: "Future[Run]") -> bool:
    return wide.done() and not wide.cancelled() and wide.exception() is None
