"""Scheduler: earliest deadline first within fair queueing; a state machine without I/O, threads or a clock.

A request is a list of texts, each with a cost in tokens. Among the requests that have received no more than their fair
share, the one with the earliest deadline gets its next text computed. Fairness is tracked in virtual time, which
advances by one token per queued request: a request is eligible while its own service is not ahead of virtual time (the
eligibility rule of EEVDF, Stoica et al. 1996, section 3, with real instead of virtual deadlines). A request of a
thousand texts, however early its deadline, therefore gets at most every second turn while a single text waits.

Times are in seconds of any one clock.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Outcome = Literal["waiting", "completed", "cancelled", "expired", "failed"]

SMOOTHING = 0.05
"""Weight of the newest batch in the moving average of seconds per token: it remembers about twenty batches."""

DEADLINE_MARGIN = 0.8
"""A request is admitted if its estimated duration is within this fraction of its timeout: estimates have errors, and
work that finishes after the deadline is wasted."""

SHEDDING_THRESHOLD = 0.95
"""Load shedding starts when the queue reaches this fraction of its limits, in tokens or in time."""


@dataclass(frozen=True)
class SchedulingPolicy:
    """Limits of the queue and of the batches.

    Attributes:
        workers: Number of workers.
        max_queue_tokens: Maximum tokens in the queue.
        batch_tokens: Tokens in a batch, of a worker's share of the queue; 0 for one text at a time.
        batch_wait: How long a text may wait for its batch to fill.

    Example:
        >>> SchedulingPolicy(workers=2, max_queue_tokens=100_000).batch_tokens
        0
    """

    workers: int
    max_queue_tokens: int
    batch_tokens: int = 0
    batch_wait: float = 0.0


@dataclass(eq=False)
class Ticket(Generic[T]):
    """A request in the queue.

    Attributes:
        payload: Data of the caller's choice, returned with each text.
        costs: Tokens per text.
        arrived: When the request was submitted.
        deadline: When its result becomes useless.
        eligible_at: Virtual time at which its next text becomes eligible.
        queued_tokens: Tokens of its texts that are still in the queue.
        taken: Number of texts that were handed out, in order.
        done: Number of texts that were computed.
        outcome: What happened to the request.
    """

    payload: T
    costs: Sequence[int]
    arrived: float
    deadline: float
    eligible_at: float
    queued_tokens: int
    taken: int = 0
    done: int = 0
    outcome: Outcome = "waiting"


@dataclass(frozen=True)
class TextTask(Generic[T]):
    """One text of a request, handed out to a worker."""

    ticket: Ticket[T]
    row: int
    cost: int


class QueueFull(Exception):
    """The queue does not have room for a request, or could not finish it before its deadline.

    Attributes:
        retry_after: Estimated seconds until the request would be admitted.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass(eq=False)
class Scheduler(Generic[T]):
    """The queue of texts.

    Attributes:
        policy: Limits of the queue and of the batches.
        token_seconds: Moving average of a worker's seconds per token.
        queued_tokens: Tokens of the texts in the queue.
        running_tokens: Tokens of the texts that are being computed.
        queued_requests: Requests with texts in the queue.
        virtual_time: Tokens that each queued request is entitled to so far; 0 while the queue is empty.

    Example:
        >>> scheduler = Scheduler(SchedulingPolicy(workers=1, max_queue_tokens=1_000))
        >>> _ = scheduler.submit("batch", [8, 8, 8], deadline=9.0, now=0.0)
        >>> _ = scheduler.submit("urgent", [8], deadline=1.0, now=0.0)
        >>> [scheduler.take(now=0.0)[0].ticket.payload for _ in range(4)]
        ['urgent', 'batch', 'batch', 'batch']
    """

    policy: SchedulingPolicy
    token_seconds: float = 1e-4
    queued_tokens: int = 0
    running_tokens: int = 0
    queued_requests: int = 0
    virtual_time: float = 0.0
    _sequence: int = 0
    _eligible: list[tuple[float, int, Ticket[T]]] = field(default_factory=list)  # by deadline
    _ineligible: list[tuple[float, int, Ticket[T]]] = field(default_factory=list)  # by eligible_at
    _arrivals: deque[Ticket[T]] = field(default_factory=deque)
    _multi_text: set[Ticket[T]] = field(default_factory=set)

    def submit(self, payload: T, costs: Sequence[int], *, deadline: float, now: float) -> Ticket[T]:
        """Add a request to the queue.

        Args:
            payload: Data of the caller's choice, returned with each text.
            costs: Tokens per text, 1 or more.
            deadline: When the request's result becomes useless.
            now: The current time.

        Raises:
            QueueFull: The queue does not have room for the request, or could not finish it before its deadline.
        """
        cost = sum(costs)
        if (excess := self.queued_tokens + cost - self.policy.max_queue_tokens) > 0:
            raise QueueFull(self._seconds(min(excess, self.queued_tokens)))
        if (late := self.estimate_seconds(cost) - DEADLINE_MARGIN * (deadline - now)) > 0:
            raise QueueFull(late)
        ticket = Ticket(payload, costs, now, deadline, self.virtual_time, cost)
        self.queued_tokens += cost
        self.queued_requests += 1
        if len(costs) > 1:
            self._multi_text.add(ticket)
        self._push(self._eligible, deadline, ticket)
        self._arrivals.append(ticket)
        return ticket

    def estimate_seconds(self, cost: int) -> float:
        """Estimate the seconds until a new request of this cost would be finished.

        While it receives its share, no multi-text request receives more than that; single-text requests count in full.
        """
        beyond = sum(max(0, ticket.queued_tokens - cost) for ticket in tuple(self._multi_text))
        return self._seconds(self.running_tokens + self.queued_tokens - beyond + cost)

    def estimate_retry_after(self, timeout: float) -> float:
        """Estimate the seconds until requests with this timeout are admitted again; 0 while they are.

        It does not depend on a request's texts, so it rejects slightly earlier than `submit`. Under overload nearly
        every rejection comes from here, without reading a body, and short requests are not preferred to long ones.
        """
        late = self.estimate_seconds(0) - SHEDDING_THRESHOLD * DEADLINE_MARGIN * timeout
        excess = self.queued_tokens - SHEDDING_THRESHOLD * self.policy.max_queue_tokens
        return max(0.0, late, self._seconds(excess))

    def ready_at(self) -> float | None:
        """Return the time at which `take` will hand out a text; `None` while the queue is empty."""
        while self._arrivals and not self._arrivals[0].queued_tokens:
            self._arrivals.popleft()
        if not self.queued_requests:
            return None
        if self.queued_tokens >= self.policy.batch_tokens:
            return float("-inf")
        return self._arrivals[0].arrived + self.policy.batch_wait

    def take(self, now: float) -> list[TextTask[T]]:
        """Hand out the next batch, or nothing while a batch should wait to fill; drop expired requests."""
        tasks: list[TextTask[T]] = []
        ready = self.ready_at()
        limit = min(self.policy.batch_tokens, self.queued_tokens // self.policy.workers)
        tokens = 0
        while ready is not None and ready <= now and (ticket := self._pop_next(now)) is not None:
            cost = ticket.costs[ticket.taken]
            if tasks and tokens + cost > limit:
                self._push(self._eligible, ticket.deadline, ticket)
                break
            tasks.append(self._hand_out(ticket, cost))
            tokens += cost
            if tokens >= limit:
                break
        return tasks

    def finish(self, tasks: Sequence[TextTask[T]], seconds: float | None) -> list[Ticket[T]]:
        """Record that a batch is finished.

        Args:
            tasks: The batch, as returned by `take`.
            seconds: How long one worker took; `None` if the batch was not computed.

        Returns:
            The requests that this batch completed.
        """
        tokens = sum(task.cost for task in tasks)
        self.running_tokens -= tokens
        if seconds is not None:
            self.token_seconds += SMOOTHING * (seconds / tokens - self.token_seconds)
        completed = []
        for ticket in (task.ticket for task in tasks):
            ticket.done += 1
            if ticket.outcome == "waiting" and ticket.done == len(ticket.costs):
                ticket.outcome = "completed"
                completed.append(ticket)
        return completed

    def drop(self, ticket: Ticket[T], outcome: Literal["cancelled", "expired", "failed"]) -> bool:
        """Remove a request's texts from the queue; return `False` if the request already has an outcome."""
        if ticket.outcome != "waiting":
            return False
        ticket.outcome = outcome
        self.queued_tokens -= ticket.queued_tokens
        if ticket.queued_tokens:
            ticket.queued_tokens = 0
            self._leave(ticket)
            self._compact()
        return True

    def _pop_next(self, now: float) -> Ticket[T] | None:
        """Remove the next request from the heaps and return it."""
        while self.queued_requests:
            if not self._eligible:  # virtual time must not stand still: advance to the first request
                self.virtual_time = max(self.virtual_time, self._ineligible[0][0])
            while self._ineligible and self._ineligible[0][0] <= self.virtual_time:
                ticket = heappop(self._ineligible)[2]
                self._push(self._eligible, ticket.deadline, ticket)
            ticket = heappop(self._eligible)[2]
            if ticket.outcome != "waiting":
                continue
            if ticket.deadline > now:
                return ticket
            self.drop(ticket, "expired")
        return None

    def _hand_out(self, ticket: Ticket[T], cost: int) -> TextTask[T]:
        task = TextTask(ticket, ticket.taken, cost)
        self.queued_tokens -= cost
        self.running_tokens += cost
        self.virtual_time += cost / self.queued_requests
        ticket.eligible_at += cost
        ticket.queued_tokens -= cost
        ticket.taken += 1
        if ticket.queued_tokens:
            self._push(self._ineligible, ticket.eligible_at, ticket)
        else:
            self._leave(ticket)
        return task

    def _leave(self, ticket: Ticket[T]) -> None:
        """Remove a request without queued texts from the counts."""
        self.queued_requests -= 1
        self._multi_text.discard(ticket)
        if not self.queued_requests:
            self.virtual_time = 0.0
            self._eligible.clear()
            self._ineligible.clear()
            self._arrivals.clear()

    def _compact(self) -> None:
        """Release dropped requests once they are the majority: cancelled requests must not fill the memory."""
        if len(self._eligible) + len(self._ineligible) > 2 * self.queued_requests + 64:
            for heap in (self._eligible, self._ineligible):
                heap[:] = [entry for entry in heap if entry[2].queued_tokens]
                heapify(heap)
            self._arrivals = deque(ticket for ticket in self._arrivals if ticket.queued_tokens)

    def _seconds(self, tokens: float) -> float:
        return tokens * self.token_seconds / self.policy.workers

    def _push(self, heap: list[tuple[float, int, Ticket[T]]], key: float, ticket: Ticket[T]) -> None:
        self._sequence += 1  # keeps equal keys in order of arrival, and tickets from being compared
        heappush(heap, (key, self._sequence, ticket))
