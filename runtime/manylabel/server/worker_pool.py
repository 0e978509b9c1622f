"""Texts to answers: the scheduler between the event loop, which submits requests, and the threads that compute."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from manylabel.server.scheduler import Full, Policy, Scheduler, Ticket, Work
from manylabel.server.served_model import Answer, Asked, Computed, Model

__all__ = ["Answered", "DeadlineExceeded", "Engine", "Full", "Job", "Observer", "Timings"]


STEP_BACK = 5
"""By how much less urgent than the event loop the threads are that compute. Where cores are short, who refuses and who
says that the server lives comes first: in a tenfold spike that took 8 s without, 0.15 s with it, and more texts were
answered, too (load_tests, two cores)."""

LAST_TEXTS = 10.0
"""Seconds until threads that still compute are left behind."""

logger = logging.getLogger("manylabel.server")


class DeadlineExceeded(Exception):
    """A request was not answered in its time."""


@dataclass(frozen=True)
class Timings:
    """Where a request's seconds went: until its first text was computed, and summed over its texts."""

    queue: float
    tokenize: float
    inference: float


@dataclass(frozen=True)
class Answered:
    """An answer for every text of a request, in order, all of one model."""

    model: Model
    answers: Sequence[Answer]
    timings: Timings


@dataclass(eq=False)
class Job:
    """A request that is being answered.

    Attributes:
        model: What answers all its texts, whatever is loaded meanwhile.
        texts: Emptied once nobody waits for them.
        answered: Where it goes, in the event loop.
        answers: By row, as they come.
        first: When the first text began to be computed.
    """

    model: Model
    texts: Sequence[Asked]
    answered: "asyncio.Future[Answered]"
    submitted: float
    answers: dict[int, Answer] = field(default_factory=dict)
    first: float = inf
    tokenize: float = 0.0
    inference: float = 0.0


Observer = Callable[[Sequence[Work[Job]], Computed, float], None]
"""Is told, on the thread that computed, of texts that were computed together and of the time that was."""


class Engine:
    """Answers requests on threads of its own.

    Args:
        model: What answers.
        policy: How work is handed out; a thread for each of its workers.
        observe: Is told of everything that was computed.
    """

    def __init__(self, model: Model, policy: Policy, observe: Observer = lambda works, computed, now: None) -> None:
        self.model = model
        self.policy = policy
        self._observe = observe
        self._scheduler: Scheduler[Job] = Scheduler(policy)
        self._changed = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(target=self._work, name=f"manylabel-worker-{number}", daemon=True)
            for number in range(policy.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait."""
        return self._scheduler.queued_tokens

    @property
    def waiting(self) -> int:
        """Requests that have texts in the queue."""
        return self._scheduler.waiting

    def crowded_for(self, timeout: float) -> float:
        """Seconds until requests that may take `timeout` will be taken again; 0 while they are.

        Without the lock: the event loop must not wait for a thread that holds it and has stepped back. Numbers that are
        read while they change are an estimate all the same.
        """
        return self._scheduler.crowded_for(timeout)

    async def answer(self, texts: Sequence[Asked], timeout: float) -> Answered:
        """Answer the texts of one request. Cancelling it drops what was not computed yet.

        Raises:
            Full: There is no room for it, or it would not be answered in time.
            DeadlineExceeded: It was not answered in time.
            ManylabelError: Of one of its texts.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        job = Job(self.model, texts, loop.create_future(), now)
        costs = [job.model.estimate_tokens(text) for text in texts]
        with self._changed:
            ticket = self._scheduler.submit(job, costs, deadline=now + timeout, now=now)
            self._changed.notify(min(len(costs), self.policy.workers))
        timer = loop.call_later(timeout, _set, job.answered, DeadlineExceeded())
        try:
            return await job.answered
        finally:
            timer.cancel()
            self._forget(ticket)

    def close(self) -> None:
        """End the threads, once they are done with the texts that they compute. What waits is never answered."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:  # the interpreter must not end under them: onnxruntime would abort the process
            thread.join(LAST_TEXTS)

    def _forget(self, ticket: Ticket[Job]) -> None:
        """See that nothing more is computed or kept for a request that is over."""
        ticket.payload.texts = ()
        if ticket.outcome == "waiting":
            with self._changed:
                self._scheduler.drop(ticket, "cancelled")

    def _work(self) -> None:
        _step_back()
        while works := self._take():
            self._compute(works)

    def _take(self) -> list[Work[Job]]:
        """What to compute next, once there is something; nothing at the end."""
        with self._changed:
            while self._open:
                now = time.monotonic()
                if works := self._scheduler.take(now):
                    return works
                ready = self._scheduler.ready_at()
                self._changed.wait(None if ready is None else max(0.0, ready - now))
        return []

    def _compute(self, works: Sequence[Work[Job]]) -> None:
        start = time.monotonic()
        by_model: dict[Model, list[tuple[Work[Job], Asked]]] = {}
        for work in works:
            if texts := work.ticket.payload.texts:  # else its request is over
                by_model.setdefault(work.ticket.payload.model, []).append((work, texts[work.row]))
        for model, asked in by_model.items():
            computed = _answers(model, [text for _, text in asked])
            self._observe([work for work, _ in asked], computed, start)  # first: who hears an answer finds it counted
            for (work, _), result in zip(asked, computed.results, strict=True):
                _record(work, result, computed, start)
        with self._changed:
            answered = self._scheduler.finish(works, time.monotonic() - start if by_model else None)
        if answered:
            _hand_over([(ticket.payload.answered, _answered(ticket.payload)) for ticket in answered])


def _step_back() -> None:
    """Have the kernel run this thread after others. On Linux alone is that a thread's own, not its process's."""
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + STEP_BACK))


def _answers(model: Model, texts: Sequence[Asked]) -> Computed:
    """What a model says of texts; whatever goes wrong is theirs, and the thread goes on."""
    try:
        return model.compute(texts)
    except Exception as exc:
        logger.exception("computing %d texts failed", len(texts))
        return Computed([exc] * len(texts), 0.0, 0.0)


def _record(work: Work[Job], result: Answer | Exception, computed: Computed, start: float) -> None:
    """Keep a text's answer with its request, or fail the request."""
    job = work.ticket.payload
    if isinstance(result, Exception):
        _hand_over([(job.answered, result)])
        return
    job.first = min(job.first, start)
    job.tokenize += computed.tokenize / len(computed.results)
    job.inference += computed.inference / len(computed.results)
    job.answers[work.row] = result


def _answered(job: Job) -> Answered:
    timings = Timings(job.first - job.submitted, job.tokenize, job.inference)
    return Answered(job.model, [job.answers[row] for row in range(len(job.answers))], timings)


def _hand_over(results: Sequence[tuple["asyncio.Future[Answered]", Answered | Exception]]) -> None:
    """Hand results to the event loop, from a thread, which wakes it up once for all of them."""

    def hand_over() -> None:
        for future, result in results:
            _set(future, result)

    with suppress(RuntimeError):  # the loop is closed: nobody waits
        results[0][0].get_loop().call_soon_threadsafe(hand_over)


def _set(future: "asyncio.Future[Answered]", result: Answered | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
