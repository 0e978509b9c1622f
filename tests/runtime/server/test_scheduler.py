"""The scheduler as a state machine, with a clock of the tests' own."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manylabel.server.scheduler import QueueFull, Scheduler, SchedulingPolicy, TextTask, Ticket


def _names(works: list[TextTask[str]]) -> list[str]:
    return [work.ticket.payload for work in works]


def _drain(scheduler: Scheduler[str], now: float = 0.0, seconds: float = 0.001) -> list[str]:
    """Whose texts are computed, in order, by one worker."""
    order: list[str] = []
    while works := scheduler.take(now):
        scheduler.finish(works, seconds)
        order += _names(works)
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
    """However early its deadline is: once served, it is ahead of its share until the others had theirs."""
    scheduler.submit("many", [5] * 50, deadline=1.0, now=0.0)
    for name in "abc":
        scheduler.submit(name, [5], deadline=9.0, now=0.0)
    assert set(_drain(scheduler)[:7]) == {"many", "a", "b", "c"}


def test_single_texts_do_not_starve_large_request() -> None:
    """They keep coming, as many as are served, with earlier deadlines most of the time."""
    scheduler: Scheduler[str] = Scheduler(SchedulingPolicy(workers=1, max_queue_tokens=10_000))
    many = scheduler.submit("many", [5] * 20, deadline=3.0, now=0.0)
    for step in range(300):
        now = step * 0.01
        scheduler.submit("single", [5], deadline=now + 1.0, now=now)
        scheduler.finish(scheduler.take(now), 0.01)
        if many.outcome == "answered":
            break
    assert many.outcome == "answered"


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
    gone = scheduler.submit("gone", [5, 5, 5], deadline=1.0, now=0.0)
    scheduler.submit("here", [5], deadline=3.0, now=0.0)
    assert scheduler.drop(gone, "cancelled")
    assert not scheduler.drop(gone, "expired")
    assert scheduler.queued_tokens == 5
    assert _drain(scheduler) == ["here"]
    assert gone.outcome == "cancelled"


def test_queue_estimate_halves_with_two_workers() -> None:
    scheduler: Scheduler[str] = Scheduler(SchedulingPolicy(workers=2, max_queue_tokens=1000), token_seconds=0.01)
    assert scheduler.expected_seconds(100) == pytest.approx(0.5)


def test_full_queue_rejects_with_retry_after(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.001
    scheduler.submit("a", [900], deadline=100.0, now=0.0)
    with pytest.raises(QueueFull) as refused:
        scheduler.submit("b", [300], deadline=100.0, now=0.0)
    assert refused.value.retry_after == pytest.approx(200 * 0.001)
    scheduler.submit("c", [100], deadline=100.0, now=0.0)


def test_request_that_cannot_meet_deadline_is_rejected(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.01
    for _ in range(8):
        scheduler.submit("a", [100], deadline=100.0, now=0.0)  # 8 seconds of work
    with pytest.raises(QueueFull) as refused:
        scheduler.submit("b", [10], deadline=5.0, now=0.0)
    assert refused.value.retry_after == pytest.approx(8.1 - 0.8 * 5)
    with pytest.raises(QueueFull):
        scheduler.submit("c", [10], deadline=10.1, now=0.0)  # by 0.02 seconds
    scheduler.submit("d", [10], deadline=10.2, now=0.0)


def test_load_shedding_before_the_queue_is_full(scheduler: Scheduler[str]) -> None:
    """Beyond 950 of its 1,000 tokens, until those are computed."""
    scheduler.token_seconds = 0.001
    assert scheduler.crowded_for(100.0) == 0
    scheduler.submit("a", [950], deadline=100.0, now=0.0)
    assert scheduler.crowded_for(100.0) == 0
    scheduler.submit("b", [40], deadline=100.0, now=0.0)
    assert scheduler.crowded_for(100.0) == pytest.approx(0.04)


def test_load_shedding_before_deadlines_are_missed(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.01
    for _ in range(8):
        scheduler.submit("a", [100], deadline=100.0, now=0.0)  # 8 seconds of work
    assert scheduler.crowded_for(11.0) == 0
    assert scheduler.crowded_for(10.0) == pytest.approx(8 - 0.95 * 0.8 * 10)
    scheduler.submit("b", [10], deadline=10.2, now=0.0)  # one that is read fits all the same


def test_single_text_is_accepted_beside_large_request(scheduler: Scheduler[str]) -> None:
    """It will not wait for all of them: its share is enough."""
    scheduler.token_seconds = 0.01
    scheduler.submit("many", [10] * 80, deadline=100.0, now=0.0)
    single = scheduler.submit("single", [10], deadline=5.0, now=0.0)
    assert scheduler.expected_seconds(10) == pytest.approx(0.3)  # its own, the other single one, and as many of theirs
    assert scheduler.expected_seconds(900) == pytest.approx(8.1 + 9)  # behind all that waits
    scheduler.take(0.0)
    scheduler.take(0.0)
    assert single.queued == 0


def test_two_texts_are_many(scheduler: Scheduler[str]) -> None:
    scheduler.token_seconds = 0.01
    scheduler.submit("two", [400, 400], deadline=100.0, now=0.0)
    assert scheduler.expected_seconds(10) == pytest.approx(0.2)


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
    """A text in every worker is answered before two in one."""
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
    for _ in range(1000):
        scheduler.drop(scheduler.submit("gone", [5, 5], deadline=10.0, now=0.0), "cancelled")
    assert len(scheduler._eligible) + len(scheduler._arrivals) < 200


class Machine(RuleBasedStateMachine):
    """Requests come, are computed by some workers, are cancelled, time passes."""

    policy = SchedulingPolicy(workers=3, max_queue_tokens=200)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.scheduler: Scheduler[int] = Scheduler(self.policy, token_seconds=0.01)
        self.tickets: list[Ticket[int]] = []
        self.running: list[list[TextTask[int]]] = []
        self.refused = 0
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
        except QueueFull as refusal:
            self.refused += 1
            self.check_refusal(refusal, before)
        else:
            self.tickets.append(ticket)

    def check_refusal(self, refusal: QueueFull, before: int) -> None:
        assert refusal.retry_after >= 0
        assert self.scheduler.queued_tokens == before

    @precondition(lambda self: len(self.running) < self.policy.workers)
    @rule()
    def take(self) -> None:
        ready = self.scheduler.ready_at()
        alive = [each for each in self.tickets if each.queued and each.deadline > self.now]
        works = self.scheduler.take(self.now)
        if works:
            self.running.append(works)
        elif alive:
            assert ready is not None
            assert ready > self.now, "a worker went away though a request could be computed"
        for work in works:
            assert work.ticket in alive, "what nobody waits for was computed"
            assert (id(work.ticket), work.row) not in self.seen, "a text was computed twice"
            self.seen.add((id(work.ticket), work.row))
        self._check_order(works, alive)

    def _check_order(self, works: list[TextTask[int]], alive: list[Ticket[int]]) -> None:
        """Of two requests that had nothing yet and came at the same virtual time, the earlier deadline goes first."""
        fresh = [each for each in alive if each.taken == 0]
        for work in works:
            if work.row == 0:
                assert all(
                    work.ticket.deadline <= other.deadline for other in fresh if other.start <= work.ticket.start
                )

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.floats(0.0001, 1.0))
    def finish(self, data: st.DataObject, seconds: float) -> None:
        works = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.scheduler.finish(works, seconds)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), outcome=st.sampled_from(["cancelled", "expired", "failed"]))
    def drop(self, data: st.DataObject, outcome: str) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        stood = ticket.outcome
        assert self.scheduler.drop(ticket, outcome) == (stood == "waiting")  # type: ignore[arg-type]
        assert ticket.outcome == (outcome if stood == "waiting" else stood)

    @rule(seconds=st.floats(0.0, 2.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        outcomes = [ticket.outcome for ticket in self.tickets]
        assert self.sent == self.refused + len(outcomes)
        for ticket in self.tickets:
            assert ticket.outcome != "answered" or ticket.done == ticket.taken == len(ticket.costs)
            if ticket.outcome == "waiting":
                held = sum(work.ticket is ticket for works in self.running for work in works)
                assert ticket.done + held == ticket.taken
                assert ticket.queued == sum(ticket.costs[ticket.taken :])

    @invariant()
    def tokens_add_up(self) -> None:
        assert self.scheduler.queued_tokens == sum(ticket.queued for ticket in self.tickets)
        assert self.scheduler.queued_tokens <= self.policy.max_queue_tokens
        assert self.scheduler.running_tokens == sum(work.cost for works in self.running for work in works)
        assert self.scheduler.waiting == sum(ticket.queued > 0 for ticket in self.tickets)

    @invariant()
    def nobody_is_ahead_of_the_share_by_more_than_a_text(self) -> None:
        for ticket in self.tickets:
            if ticket.queued and ticket.taken:
                assert ticket.start <= self.scheduler._virtual + ticket.costs[ticket.taken - 1] + 1e-9

    def teardown(self) -> None:
        """What still waits is answered or too late, once workers go on."""
        while self.running:
            self.scheduler.finish(self.running.pop(), 0.01)
        while works := self.scheduler.take(self.now):
            self.scheduler.finish(works, 0.01)
        assert all(ticket.outcome != "waiting" for ticket in self.tickets)
        assert (self.scheduler.queued_tokens, self.scheduler.running_tokens) == (0, 0)


class BatchMachine(Machine):
    """The same with batches."""

    policy = SchedulingPolicy(workers=1, max_queue_tokens=200, batch_tokens=40, batch_wait=0.3)

    def teardown(self) -> None:
        self.now += 1.0
        super().teardown()


class ShareMachine(Machine):
    """The same with several workers that take batches of what is there."""

    policy = SchedulingPolicy(workers=3, max_queue_tokens=200, batch_tokens=40)


TestMachine = Machine.TestCase
TestShareMachine = ShareMachine.TestCase
TestBatchMachine = BatchMachine.TestCase
