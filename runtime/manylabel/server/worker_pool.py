"""Worker pool: threads that compute texts; the scheduler decides which text is next.

The event loop submits requests and awaits their results. Each worker thread takes a batch from the scheduler, computes
it, and hands the results of completed requests back to the event loop.
"""

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

from manylabel.server.scheduler import Scheduler, SchedulingPolicy, TextTask, Ticket
from manylabel.server.served_model import BatchResult, ModelInput, ServedModel, TextResult

NICE_INCREMENT = 5
"""Lower priority of the worker threads against the event loop. Where cores are scarce, load shedding and the liveness
probe come first: in a tenfold spike, responses to them took 8 s without it and 0.15 s with it, and more texts were
classified, too (load_tests, two cores)."""

JOIN_TIMEOUT = 10.0
"""Seconds after which `close` abandons a worker thread that is still computing."""

logger = logging.getLogger("manylabel.server")


class DeadlineExceeded(Exception):
    """A request was not finished before its deadline."""


@dataclass(frozen=True)
class Timings:
    """Where a request's time went, in seconds.

    Attributes:
        queue: Time until its first text was computed.
        tokenize: Tokenization, summed over its texts.
        inference: Inference, summed over its texts.
    """

    queue: float
    tokenize: float
    inference: float


@dataclass(frozen=True)
class RequestResult:
    """The results of one request, one per text in input order, all computed by the same model."""

    model: ServedModel
    results: Sequence[TextResult]
    timings: Timings


@dataclass(eq=False)
class PendingRequest:
    """A request whose texts are queued or being computed.

    Attributes:
        model: The model for all its texts, even if another one is loaded meanwhile.
        texts: The texts; emptied when nobody awaits the result.
        future: Receives the result, in the event loop.
        submitted: When the request was submitted.
        results: Results by row.
        first: When computation of the first text started.
        tokenize: Seconds of tokenization so far.
        inference: Seconds of inference so far.
    """

    model: ServedModel
    texts: Sequence[ModelInput]
    future: "asyncio.Future[RequestResult]"
    submitted: float
    results: dict[int, TextResult] = field(default_factory=dict)
    first: float = inf
    tokenize: float = 0.0
    inference: float = 0.0

    def result(self) -> RequestResult:
        """Return the results in input order."""
        timings = Timings(self.first - self.submitted, self.tokenize, self.inference)
        return RequestResult(self.model, [self.results[row] for row in range(len(self.results))], timings)


BatchObserver = Callable[[Sequence[TextTask[PendingRequest]], BatchResult, float], None]
"""Called on the worker thread with each computed batch and the time at which its computation started."""


def _ignore_batch(tasks: Sequence[TextTask[PendingRequest]], batch: BatchResult, start: float) -> None:
    pass


class WorkerPool:
    """Computes requests on its own threads.

    Args:
        model: The model to compute with.
        policy: Limits of the queue and of the batches; the pool starts one thread per worker.
        observe: Called with each computed batch.

    Example:
        >>> import asyncio
        >>> from manylabel import Classifier
        >>> model = ServedModel("reviews", Classifier.load("bundle", device="cpu"))
        >>> pool = WorkerPool(model, SchedulingPolicy(workers=1, max_queue_tokens=1_000))
        >>> request = asyncio.run(pool.compute(["The parcel was late."], timeout=10))
        >>> request.results[0].probabilities.shape
        (4,)
        >>> pool.close()
    """

    def __init__(self, model: ServedModel, policy: SchedulingPolicy, observe: BatchObserver = _ignore_batch) -> None:
        self.model = model
        self.policy = policy
        self._observe = observe
        self._scheduler: Scheduler[PendingRequest] = Scheduler(policy)
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
        """Tokens of the texts in the queue."""
        return self._scheduler.queued_tokens

    @property
    def queued_requests(self) -> int:
        """Requests with texts in the queue."""
        return self._scheduler.queued_requests

    def estimate_retry_after(self, timeout: float) -> float:
        """Estimate the seconds until requests with this timeout are admitted again; 0 while they are.

        It does not take the lock: the event loop must not wait for a low-priority thread that holds it. The values may
        change while they are read, which an estimate tolerates.
        """
        return self._scheduler.estimate_retry_after(timeout)

    async def compute(self, texts: Sequence[ModelInput], timeout: float) -> RequestResult:
        """Compute the texts of one request. Cancellation removes its texts from the queue.

        Args:
            texts: The texts, one or more.
            timeout: Seconds until the request's deadline.

        Raises:
            QueueFull: The queue does not have room for the request, or could not finish it before its deadline.
            DeadlineExceeded: The request was not finished before its deadline.
            ManylabelError: One of its texts is invalid, or the model failed.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        request = PendingRequest(self.model, texts, loop.create_future(), now)
        costs = [request.model.estimate_tokens(text) for text in texts]
        with self._changed:
            ticket = self._scheduler.submit(request, costs, deadline=now + timeout, now=now)
            self._changed.notify(min(len(costs), self.policy.workers))
        timer = loop.call_later(timeout, _resolve, request.future, DeadlineExceeded())
        try:
            return await request.future
        finally:
            timer.cancel()
            self._abandon(ticket)

    def close(self) -> None:
        """Stop the threads when their current batches are finished. Queued requests are never resolved."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:  # if the interpreter exited first, onnxruntime would abort the process
            thread.join(JOIN_TIMEOUT)

    def _abandon(self, ticket: Ticket[PendingRequest]) -> None:
        """Stop computing and storing results for a request that nobody awaits."""
        ticket.payload.texts = ()
        if ticket.outcome == "waiting":
            with self._changed:
                self._scheduler.drop(ticket, "cancelled")

    def _work(self) -> None:
        _lower_thread_priority()
        while tasks := self._take():
            self._compute_batch(tasks)

    def _take(self) -> list[TextTask[PendingRequest]]:
        """Wait for the next batch; return an empty one when the pool is closed."""
        with self._changed:
            while self._open:
                now = time.monotonic()
                if tasks := self._scheduler.take(now):
                    return tasks
                ready = self._scheduler.ready_at()
                self._changed.wait(None if ready is None else max(0.0, ready - now))
        return []

    def _compute_batch(self, tasks: Sequence[TextTask[PendingRequest]]) -> None:
        start = time.monotonic()
        by_model: dict[ServedModel, list[tuple[TextTask[PendingRequest], ModelInput]]] = {}
        for task in tasks:
            if texts := task.ticket.payload.texts:  # empty if nobody awaits the request
                by_model.setdefault(task.ticket.payload.model, []).append((task, texts[task.row]))
        for model, inputs in by_model.items():
            batch = _compute_safely(model, [text for _, text in inputs])
            self._observe([task for task, _ in inputs], batch, start)  # first: a client finds its own request counted
            for (task, _), result in zip(inputs, batch.results, strict=True):
                _store_result(task, result, batch, start)
        with self._changed:
            completed = self._scheduler.finish(tasks, time.monotonic() - start if by_model else None)
        if completed:
            _send_to_loop([(ticket.payload.future, ticket.payload.result()) for ticket in completed])


def _lower_thread_priority() -> None:
    """Lower the calling thread's priority. Only on Linux does a thread have a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE_INCREMENT))


def _compute_safely(model: ServedModel, texts: Sequence[ModelInput]) -> BatchResult:
    """Compute a batch; an unexpected error becomes the result of its texts, and the thread survives."""
    try:
        return model.compute(texts)
    except Exception as exc:
        logger.exception("computing %d texts failed", len(texts))
        return BatchResult([exc] * len(texts), 0.0, 0.0)


def _store_result(
    task: TextTask[PendingRequest], result: TextResult | Exception, batch: BatchResult, start: float
) -> None:
    """Store a text's result in its request, or fail the request."""
    request = task.ticket.payload
    if isinstance(result, Exception):
        _send_to_loop([(request.future, result)])
        return
    request.first = min(request.first, start)
    request.tokenize += batch.tokenize / len(batch.results)
    request.inference += batch.inference / len(batch.results)
    request.results[task.row] = result


def _send_to_loop(results: Sequence[tuple["asyncio.Future[RequestResult]", RequestResult | Exception]]) -> None:
    """Resolve futures from a worker thread, waking up the event loop once for all of them."""

    def resolve_all() -> None:
        for future, result in results:
            _resolve(future, result)

    with suppress(RuntimeError):  # the event loop is closed: nobody awaits the results
        results[0][0].get_loop().call_soon_threadsafe(resolve_all)


def _resolve(future: "asyncio.Future[RequestResult]", result: RequestResult | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
