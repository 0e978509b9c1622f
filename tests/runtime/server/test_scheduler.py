"""The scheduler as a state machine, with simulated time."""

import weakref

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manylabel.server.scheduler import QueueFull, Scheduler, SchedulingPolicy, TextTask, Ticket


def _names(tasks: list[TextTask[str]]) -> list[str]:
    return [task.ticket.payload for task in tasks]


def _drain(scheduler: Scheduler[str], now: float = 0.0, seconds: float = 0.001) -> list[str]:
    """Return the requests whose texts one worker computes, in order."""
    order: list[str] = []
    while tasks := scheduler.take(now):
        scheduler.finish(tasks, seconds)
        order += _names(tasks)
    return order


@pytest.fixture
def scheduler() -> Scheduler[str]:
    return Scheduler(SchedulingPolicy(workers=1, max_queue_tokens=1000))


def test_earliest_deadline_first(scheduler: Scheduler[str]) -> None:
    for name, deadline in (("late", 9.0), ("soon", 3.0), ("sooner", 2.0), ("later", 10.0)):
        scheduler.submit(name, [5], deadline=deadline, now=0.0)
    assert _drain(scheduler) == ["sooner", "soon", "late", "later"]


def test_equal_deadlines_are_fifo(scheduler: Scheduler[str]) -> None:
    for name in "abcd":
        scheduler.submit(name, [5], deadline=9.0, now=0.0)
    assert _drain(scheduler) == ["a", "b", "c", "d"]


def test_large_request_does_not_starve_single_texts(scheduler: Scheduler[str]) -> None:
    """However early its deadline is: once served, it is ineligible until the others have had their share."""
    scheduler.submit("many", [5] * 50, deadline=1.0, now=0.0)
    for name in "abc":
        scheduler.submit(name, [5], deadline=9.0, now=0.0)
    assert set(_drain(scheduler)[:7]) == {"many", "a", "b", "c"}


def test_single_texts_do_not_starve_large_request() -> None:
    """Single texts keep arriving as fast as they are computed, mostly with earlier deadlines."""
    scheduler: Scheduler[str] = Scheduler(SchedulingPolicy(workers=1, max_queue_tokens=10_000))
    many = scheduler.submit("many", [5] * 20, deadline=3.0, now=0.0)
    for step in range(300):
        now = step * 0.01
        scheduler.submit("single", [5], deadline=now + 1.0, now=now)
        scheduler.finish(scheduler.take(now), 0.01)
        if many.outcome == "completed":
            break
    assert many.outcome == "completed"


def test_large_requests_take_turns(scheduler: Scheduler[str]) -> None:
    scheduler.submit("a", [5] * 10, deadline=1.0, now=0.0)
    scheduler.submit("b", [5] * 10, deadline=9.0, now=0.0)
    order = _drain(scheduler)
    for end in range(1, 20):
        assert abs(order[:end].count("a") - order[:end].count("b")) <= 2


def test_expired_request_costs_nothing(scheduler: Scheduler[str]) -> None:
    late = scheduler.submit("late", [5], deadline=1.0, now=0.0)
    scheduler.submit("in time", [5], deadline=3.0, now=0.0)
    assert _names(scheduler.take(2.0)) == ["in time"]
    assert late.outcome == "expired"


def test_cancelled_request_costs_nothing(scheduler: Scheduler[str]) -> None:
    cancelled = scheduler.submit("cancelled", [5, 5, 5], deadline=1.0, now=0.0)
    scheduler.submit("here", [5], deadline=3.0, now=0.0)
    assert scheduler.drop(cancelled, "cancelled")
    assert not scheduler.drop(cancelled, "expired")
    assert scheduler.queued_tokens == 5
    assert _drain(scheduler) == ["here"]
    assert cancelled.outcome == "cancelled"


def test_queue_estimate_halves_with_two_workers() -> None:
    scheduler: Scheduler[str] = Scheduler(SchedulingPolicy(workers=2, max_queue_tokens=1000), token_seconds=0.01)
    assert scheduler.estimate_seconds(100) == pytest.approx(0.5)


def test_full_queue_rejects_with_retry_after(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.001
    scheduler.submit("a", [900], deadline=100.0, now=0.0)
    with pytest.raises(QueueFull) as full:
        scheduler.submit("b", [300], deadline=100.0, now=0.0)
    assert full.value.retry_after == pytest.approx(200 * 0.001)
    scheduler.submit("c", [100], deadline=100.0, now=0.0)


def test_request_that_cannot_meet_deadline_is_rejected(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.01
    for _ in range(8):
        scheduler.submit("a", [100], deadline=100.0, now=0.0)  # 8 seconds of work
    with pytest.raises(QueueFull) as full:
        scheduler.submit("b", [10], deadline=5.0, now=0.0)
    assert full.value.retry_after == pytest.approx(8.1 - 0.8 * 5)
    with pytest.raises(QueueFull):
        scheduler.submit("c", [10], deadline=10.1, now=0.0)  # 0.02 seconds too late
    scheduler.submit("d", [10], deadline=10.2, now=0.0)


def test_load_shedding_before_the_queue_is_full(scheduler: Scheduler[str]) -> None:
    """Load shedding starts at 950 of 1,000 tokens, and lasts until the excess is computed."""
    scheduler.token_seconds = 0.001
    assert scheduler.estimate_retry_after(100.0) == 0
    scheduler.submit("a", [950], deadline=100.0, now=0.0)
    assert scheduler.estimate_retry_after(100.0) == 0
    scheduler.submit("b", [40], deadline=100.0, now=0.0)
    assert scheduler.estimate_retry_after(100.0) == pytest.approx(0.04)


def test_load_shedding_before_deadlines_are_missed(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.01
    for _ in range(8):
        scheduler.submit("a", [100], deadline=100.0, now=0.0)  # 8 seconds of work
    assert scheduler.estimate_retry_after(11.0) == 0
    assert scheduler.estimate_retry_after(10.0) == pytest.approx(8 - 0.95 * 0.8 * 10)
    scheduler.submit("b", [10], deadline=10.2, now=0.0)  # `submit` still admits a request


def test_single_text_is_accepted_beside_large_request(scheduler: Scheduler[str]) -> None:
    """It does not wait for all texts of the large request: its fair share is enough."""
    scheduler.token_seconds = 0.01
    scheduler.submit("many", [10] * 80, deadline=100.0, now=0.0)
    single = scheduler.submit("single", [10], deadline=5.0, now=0.0)
    assert scheduler.estimate_seconds(10) == pytest.approx(
        0.3
    )  # itself, the other single text, the share of the large request
    assert scheduler.estimate_seconds(900) == pytest.approx(8.1 + 9)  # after everything in the queue
    scheduler.take(0.0)
    scheduler.take(0.0)
    assert single.queued_tokens == 0


def test_two_texts_count_as_a_multi_text_request(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.01
    scheduler.submit("two", [400, 400], deadline=100.0, now=0.0)
    assert scheduler.estimate_seconds(10) == pytest.approx(0.2)


def test_full_batch_does_not_wait() -> None:
    scheduler: Scheduler[str] = Scheduler(
        SchedulingPolicy(workers=1, max_queue_tokens=1000, batch_tokens=100, batch_wait=0.5)
    )
    scheduler.submit("a", [60], deadline=9.0, now=0.0)
    scheduler.submit("b", [40], deadline=9.0, now=0.0)
    assert _names(scheduler.take(0.0)) == ["a", "b"]


def test_batch_wait_is_bounded() -> None:
    scheduler: Scheduler[str] = Scheduler(
        SchedulingPolicy(workers=1, max_queue_tokens=1000, batch_tokens=100, batch_wait=0.5)
    )
    scheduler.submit("a", [40], deadline=9.0, now=0.0)
    assert scheduler.take(0.4) == []
    assert scheduler.ready_at() == 0.5
    scheduler.submit("b", [40], deadline=9.0, now=0.4)
    scheduler.submit("c", [40], deadline=9.0, now=0.4)
    assert _names(scheduler.take(0.4)) == ["a", "b"]
    assert scheduler.take(0.8) == []
    assert _names(scheduler.take(0.9)) == ["c"]
    assert scheduler.ready_at() is None


def test_worker_takes_a_fair_share() -> None:
    """Each worker gets one text before one of them gets two."""
    scheduler: Scheduler[str] = Scheduler(SchedulingPolicy(workers=2, max_queue_tokens=1000, batch_tokens=100))
    for name in "abcd":
        scheduler.submit(name, [10], deadline=9.0, now=0.0)
    assert [_names(scheduler.take(0.0)) for _ in range(4)] == [["a", "b"], ["c"], ["d"], []]


def test_oversized_text_runs_alone() -> None:
    scheduler: Scheduler[str] = Scheduler(SchedulingPolicy(workers=1, max_queue_tokens=1000, batch_tokens=100))
    scheduler.submit("a", [400], deadline=9.0, now=0.0)
    scheduler.submit("b", [40], deadline=9.0, now=0.0)
    assert _names(scheduler.take(0.0)) == ["a"]
    assert _names(scheduler.take(0.0)) == ["b"]


def test_dropped_requests_free_memory(scheduler: Scheduler[str]) -> None:
    scheduler.submit("stays", [5], deadline=9.0, now=0.0)
    alive: weakref.WeakSet[Ticket[str]] = weakref.WeakSet()
    for _ in range(1000):
        ticket = scheduler.submit("cancelled", [5, 5], deadline=10.0, now=0.0)
        alive.add(ticket)
        scheduler.drop(ticket, "cancelled")
    assert len(alive) < 200


class SchedulerMachine(RuleBasedStateMachine):
    """Requests arrive, are computed by several workers, are cancelled; time passes."""

    policy = SchedulingPolicy(workers=3, max_queue_tokens=200)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.scheduler: Scheduler[int] = Scheduler(self.policy, token_seconds=0.01)
        self.tickets: list[Ticket[int]] = []
        self.running: list[list[TextTask[int]]] = []
        self.rejected = 0
        self.sent = 0
        self.seen: set[tuple[int, int]] = set()

    @rule(
        costs=st.lists(st.integers(1, 30), min_size=1, max_size=6),
        timeout=st.floats(0.01, 5.0, allow_nan=False),
    )
    def submit(self, costs: list[int], timeout: float) -> None:
        self.sent += 1
        before = self.scheduler.queued_tokens
        try:
            ticket = self.scheduler.submit(self.sent, costs, deadline=self.now + timeout, now=self.now)
        except QueueFull as full:
            self.rejected += 1
            self.check_rejection(full, before)
        else:
            self.tickets.append(ticket)

    def check_rejection(self, full: QueueFull, before: int) -> None:
        assert full.retry_after >= 0
        assert self.scheduler.queued_tokens == before

    @precondition(lambda self: len(self.running) < self.policy.workers)
    @rule()
    def take(self) -> None:
        ready = self.scheduler.ready_at()
        alive = [each for each in self.tickets if each.queued_tokens and each.deadline > self.now]
        tasks = self.scheduler.take(self.now)
        if tasks:
            self.running.append(tasks)
        elif alive:
            assert ready is not None
            assert ready > self.now, "a worker got nothing although a request was ready"
        for task in tasks:
            assert task.ticket in alive, "a text of a finished request was computed"
            assert (id(task.ticket), task.row) not in self.seen, "a text was computed twice"
            self.seen.add((id(task.ticket), task.row))
        self._check_order(tasks, alive)

    def _check_order(self, tasks: list[TextTask[int]], alive: list[Ticket[int]]) -> None:
        """Of two requests that are equally eligible and have not been served, the earlier deadline goes first."""
        fresh = [each for each in alive if each.taken == 0]
        for task in tasks:
            if task.row == 0:
                assert all(
                    task.ticket.deadline <= other.deadline
                    for other in fresh
                    if other.eligible_at <= task.ticket.eligible_at
                )

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.floats(0.0001, 1.0))
    def finish(self, data: st.DataObject, seconds: float) -> None:
        tasks = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.scheduler.finish(tasks, seconds)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), outcome=st.sampled_from(["cancelled", "expired", "failed"]))
    def drop(self, data: st.DataObject, outcome: str) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        before = ticket.outcome
        assert self.scheduler.drop(ticket, outcome) == (before == "waiting")  # type: ignore[arg-type]
        assert ticket.outcome == (outcome if before == "waiting" else before)

    @rule(seconds=st.floats(0.0, 2.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def every_request_has_one_outcome(self) -> None:
        outcomes = [ticket.outcome for ticket in self.tickets]
        assert self.sent == self.rejected + len(outcomes)
        for ticket in self.tickets:
            assert ticket.outcome != "completed" or ticket.done == ticket.taken == len(ticket.costs)
            if ticket.outcome == "waiting":
                running = sum(task.ticket is ticket for tasks in self.running for task in tasks)
                assert ticket.done + running == ticket.taken
                assert ticket.queued_tokens == sum(ticket.costs[ticket.taken :])

    @invariant()
    def tokens_add_up(self) -> None:
        assert self.scheduler.queued_tokens == sum(ticket.queued_tokens for ticket in self.tickets)
        assert self.scheduler.queued_tokens <= self.policy.max_queue_tokens
        assert self.scheduler.running_tokens == sum(task.cost for tasks in self.running for task in tasks)
        assert self.scheduler.queued_requests == sum(ticket.queued_tokens > 0 for ticket in self.tickets)

    @invariant()
    def service_exceeds_the_fair_share_by_at_most_one_text(self) -> None:
        for ticket in self.tickets:
            if ticket.queued_tokens and ticket.taken:
                assert ticket.eligible_at <= self.scheduler.virtual_time + ticket.costs[ticket.taken - 1] + 1e-9

    def teardown(self) -> None:
        """When workers continue, every waiting request is completed or expires."""
        while self.running:
            self.scheduler.finish(self.running.pop(), 0.01)
        while tasks := self.scheduler.take(self.now):
            self.scheduler.finish(tasks, 0.01)
        assert all(ticket.outcome != "waiting" for ticket in self.tickets)
        assert (self.scheduler.queued_tokens, self.scheduler.running_tokens) == (0, 0)


class BatchMachine(SchedulerMachine):
    """One worker that takes batches."""

    policy = SchedulingPolicy(workers=1, max_queue_tokens=200, batch_tokens=40, batch_wait=0.3)

    def teardown(self) -> None:
        self.now += 1.0
        super().teardown()


class SharedBatchMachine(SchedulerMachine):
    """Several workers that share the queue in batches."""

    policy = SchedulingPolicy(workers=3, max_queue_tokens=200, batch_tokens=40)


TestSchedulerMachine = SchedulerMachine.TestCase
TestSharedBatchMachine = SharedBatchMachine.TestCase
TestBatchMachine = BatchMachine.TestCase
