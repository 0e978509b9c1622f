"""Which text is computed next: a state machine without I/O, threads or a clock. Times are seconds of any one clock.

A request is a list of texts, each with a cost in tokens. Among requests that have had no more than their fair share,
the one with the earliest deadline has its next text computed. The share is kept in virtual time, which runs at one
token for each request that waits: a request may be served while its own service is not ahead of it (the eligibility
rule of EEVDF, Stoica et al. 1996, section 3, with real deadlines in place of virtual ones). So a request of a thousand
texts, however early its deadline, gets every second turn at most while a single text waits.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Outcome = Literal["waiting", "answered", "cancelled", "expired", "failed"]

SMOOTHING = 0.05
"""Weight of the newest batch in the estimate of seconds a token: some twenty batches are remembered."""

MARGIN = 0.8
"""A request is taken if it would be answered within this part of its time, as the queue stands: estimates err, and work
that ends too late is wasted."""

CROWDED = 0.95
"""A request's texts are not looked at where the queue is filled, in tokens or in time, beyond this part."""


@dataclass(frozen=True)
class Policy:
    """How work is handed out.

    Attributes:
        workers: How many take work at the same time.
        max_queue_tokens: Tokens that may wait.
        batch_tokens: Tokens that a worker takes together, of its share of what waits; 0: one text at a time.
        batch_wait: How long a text may wait for others to fill its batch.
    """

    workers: int
    max_queue_tokens: int
    batch_tokens: int = 0
    batch_wait: float = 0.0


@dataclass(eq=False)
class Ticket(Generic[T]):
    """A request in the queue.

    Attributes:
        payload: What its owner wants back with its texts.
        costs: Tokens of each text.
        arrived: When it was submitted.
        deadline: When its answer is of no use any more.
        start: Virtual time from which its next text may be computed.
        queued: Tokens of its texts that wait.
        taken: How many texts were handed out, in order.
        done: How many of those are computed.
        outcome: What became of it.
    """

    payload: T
    costs: Sequence[int]
    arrived: float
    deadline: float
    start: float
    queued: int
    taken: int = 0
    done: int = 0
    outcome: Outcome = "waiting"


@dataclass(frozen=True)
class Work(Generic[T]):
    """A text to be computed."""

    ticket: Ticket[T]
    row: int
    cost: int


class Full(Exception):
    """There is no room for a request, or no time.

    Attributes:
        retry_after: Seconds until there will be, as the queue stands.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass(eq=False)
class Scheduler(Generic[T]):
    """The queue.

    Attributes:
        policy: How work is handed out.
        token_seconds: Seconds of one worker that a token takes, as last seen.
        queued_tokens: Tokens of the texts that wait.
        running_tokens: Tokens of the texts that are being computed.
        waiting: Requests that have texts in the queue.
    """

    policy: Policy
    token_seconds: float = 1e-4
    queued_tokens: int = 0
    running_tokens: int = 0
    waiting: int = 0
    _virtual: float = 0.0
    _sequence: int = 0
    _eligible: list[tuple[float, int, Ticket[T]]] = field(default_factory=list)  # by deadline
    _ahead: list[tuple[float, int, Ticket[T]]] = field(default_factory=list)  # of their share, by start
    _arrivals: deque[Ticket[T]] = field(default_factory=deque)
    _many: set[Ticket[T]] = field(default_factory=set)  # of several texts

    def submit(self, payload: T, costs: Sequence[int], *, deadline: float, now: float) -> Ticket[T]:
        """Take a request into the queue.

        Args:
            payload: What its owner wants back with its texts.
            costs: Tokens of each text, 1 or more.
            deadline: When its answer is of no use any more.
            now: The time.

        Raises:
            Full: There is no room for it, or it would not be answered in time.
        """
        cost = sum(costs)
        if (excess := self.queued_tokens + cost - self.policy.max_queue_tokens) > 0:
            raise Full(self._seconds(min(excess, self.queued_tokens)))
        if (late := self.expected_seconds(cost) - MARGIN * (deadline - now)) > 0:
            raise Full(late)
        ticket = Ticket(payload, costs, now, deadline, self._virtual, cost)
        self.queued_tokens += cost
        self.waiting += 1
        if len(costs) > 1:
            self._many.add(ticket)
        self._push(self._eligible, deadline, ticket)
        self._arrivals.append(ticket)
        return ticket

    def expected_seconds(self, cost: int) -> float:
        """Until a request of this cost would be answered, as the queue stands.

        While it gets its share, no other request gets more than the same; those of one text are counted whole.
        """
        beyond = sum(max(0, ticket.queued - cost) for ticket in tuple(self._many))
        return self._seconds(self.running_tokens + self.queued_tokens - beyond + cost)

    def crowded_for(self, seconds: float) -> float:
        """Until there is room again for requests that may take so many seconds; 0 while there is.

        Knows nothing of their texts, and so refuses a little before `submit` does: under overload nearly every refusal
        is one of these, which costs no body to read, and no request is taken for being short while longer ones are not.
        """
        late = self.expected_seconds(0) - CROWDED * MARGIN * seconds
        excess = self.queued_tokens - CROWDED * self.policy.max_queue_tokens
        return max(0.0, late, self._seconds(excess))

    def ready_at(self) -> float | None:
        """When `take` will hand out something; `None` while nothing waits."""
        while self._arrivals and not self._arrivals[0].queued:
            self._arrivals.popleft()
        if not self.waiting:
            return None
        if self.queued_tokens >= self.policy.batch_tokens:
            return float("-inf")
        return self._arrivals[0].arrived + self.policy.batch_wait

    def take(self, now: float) -> list[Work[T]]:
        """Hand out texts to a worker: none where it is better to wait. Requests that are too late are dropped."""
        works: list[Work[T]] = []
        ready = self.ready_at()
        most = min(self.policy.batch_tokens, self.queued_tokens // self.policy.workers)
        tokens = 0
        while ready is not None and ready <= now and (ticket := self._next(now)) is not None:
            cost = ticket.costs[ticket.taken]
            if works and tokens + cost > most:
                self._push(self._eligible, ticket.deadline, ticket)
                break
            works.append(self._hand_out(ticket, cost))
            tokens += cost
            if tokens >= most:
                break
        return works

    def finish(self, works: Sequence[Work[T]], seconds: float | None) -> list[Ticket[T]]:
        """Note that texts which were taken together are done with.

        Args:
            works: What `take` gave.
            seconds: Of one worker that they took; `None` where they were not computed after all.

        Returns:
            The requests that are answered by it.
        """
        tokens = sum(work.cost for work in works)
        self.running_tokens -= tokens
        if seconds is not None:
            self.token_seconds += SMOOTHING * (seconds / tokens - self.token_seconds)
        answered = []
        for ticket in (work.ticket for work in works):
            ticket.done += 1
            if ticket.outcome == "waiting" and ticket.done == len(ticket.costs):
                ticket.outcome = "answered"
                answered.append(ticket)
        return answered

    def drop(self, ticket: Ticket[T], outcome: Literal["cancelled", "expired", "failed"]) -> bool:
        """Drop what waits of a request; `False` where its outcome stands already."""
        if ticket.outcome != "waiting":
            return False
        ticket.outcome = outcome
        self.queued_tokens -= ticket.queued
        if ticket.queued:
            ticket.queued = 0
            self._leave(ticket)
            self._compact()
        return True

    def _next(self, now: float) -> Ticket[T] | None:
        """The request whose turn it is, out of the heaps."""
        while self.waiting:
            if not self._eligible:  # virtual time does not stand still: on to whoever is the least ahead
                self._virtual = max(self._virtual, self._ahead[0][0])
            while self._ahead and self._ahead[0][0] <= self._virtual:
                ticket = heappop(self._ahead)[2]
                self._push(self._eligible, ticket.deadline, ticket)
            ticket = heappop(self._eligible)[2]
            if ticket.outcome != "waiting":
                continue
            if ticket.deadline > now:
                return ticket
            self.drop(ticket, "expired")
        return None

    def _hand_out(self, ticket: Ticket[T], cost: int) -> Work[T]:
        work = Work(ticket, ticket.taken, cost)
        self.queued_tokens -= cost
        self.running_tokens += cost
        self._virtual += cost / self.waiting
        ticket.start += cost
        ticket.queued -= cost
        ticket.taken += 1
        if ticket.queued:
            self._push(self._ahead, ticket.start, ticket)
        else:
            self._leave(ticket)
        return work

    def _leave(self, ticket: Ticket[T]) -> None:
        """Count a request out of the queue."""
        self.waiting -= 1
        self._many.discard(ticket)
        if not self.waiting:
            self._virtual = 0.0
            self._eligible.clear()
            self._ahead.clear()
            self._arrivals.clear()

    def _compact(self) -> None:
        """Forget dropped requests once they are the greater part: what clients gave up must not fill the memory."""
        if len(self._eligible) + len(self._ahead) > 2 * self.waiting + 64:
            for heap in (self._eligible, self._ahead):
                heap[:] = [entry for entry in heap if entry[2].queued]
                heapify(heap)
            self._arrivals = deque(ticket for ticket in self._arrivals if ticket.queued)

    def _seconds(self, tokens: float) -> float:
        return tokens * self.token_seconds / self.policy.workers

    def _push(self, heap: list[tuple[float, int, Ticket[T]]], key: float, ticket: Ticket[T]) -> None:
        self._sequence += 1  # so that equals keep their order and tickets are never compared
        heappush(heap, (key, self._sequence, ticket))
