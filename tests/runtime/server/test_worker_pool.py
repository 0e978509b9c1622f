"""The engine: real threads and a real model between an event loop and the scheduler."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from manylabel import Classifier, InvalidText
from manylabel.server.scheduler import SchedulingPolicy
from manylabel.server.served_model import BatchResult, Model
from manylabel.server.worker_pool import NICE_INCREMENT, DeadlineExceeded, QueueFull, WorkerPool

POLICY = SchedulingPolicy(workers=2, max_queue_tokens=10_000)


class Gate(Model):
    """A model that answers once it is let."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__("tiny", classifier)
        self.open = threading.Event()
        self.asked: list[str] = []

    def compute(self, texts: Sequence[str]) -> BatchResult:
        self.asked += texts
        assert self.open.wait(10)
        if "broken" in texts:
            raise ZeroDivisionError
        return super().compute(texts)


@pytest.fixture
def gate(classifier: Classifier) -> Iterator[Gate]:
    gate = Gate(classifier)
    yield gate
    gate.open.set()


async def _until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.001)


def test_worker_pool_matches_the_classifier(classifier: Classifier) -> None:
    texts = [f"the parcel was late {'late ' * n}" for n in range(60)]
    engine = WorkerPool(Model("tiny", classifier), POLICY)

    async def ask() -> None:
        singles = asyncio.gather(*(engine.answer([text], 10) for text in texts))
        many = await engine.answer(texts, 10)
        expected = classifier.predict_proba(texts)
        np.testing.assert_array_equal([answer.probabilities for answer in many.answers], expected)
        np.testing.assert_array_equal([each.answers[0].probabilities for each in await singles], expected)
        assert many.timings.queue >= 0
        assert many.timings.inference > 0

    asyncio.run(ask())
    engine.close()


def test_worker_pool_batches_match_single_texts(classifier: Classifier) -> None:
    texts = [f"the parcel was late {'late ' * n}" for n in range(60)]
    engine = WorkerPool(Model("tiny", classifier), SchedulingPolicy(1, 10_000, batch_tokens=200, batch_wait=0.01))

    async def ask() -> None:
        singles = await asyncio.gather(*(engine.answer([text], 10) for text in texts))
        expected = classifier.predict_proba(texts)
        np.testing.assert_array_equal([each.answers[0].probabilities for each in singles], expected)

    asyncio.run(ask())
    engine.close()


def test_worker_pool_error_affects_one_request(classifier: Classifier) -> None:
    """Whether it is the text's or ours, and the thread goes on."""
    model = Gate(classifier)
    model.open.set()
    engine = WorkerPool(model, SchedulingPolicy(1, 10_000, batch_tokens=200, batch_wait=0.02))

    async def ask() -> None:
        good, bad = await asyncio.gather(
            engine.answer(["good"], 10),
            engine.answer([3], 10),
            return_exceptions=True,  # type: ignore[list-item]
        )
        assert isinstance(bad, TypeError | InvalidText)
        assert not isinstance(good, BaseException)
        with pytest.raises(ZeroDivisionError):
            await engine.answer(["broken"], 10)
        await engine.answer(["good"], 10)

    asyncio.run(ask())
    engine.close()


def test_worker_pool_skips_cancelled_requests(gate: Gate) -> None:
    engine = WorkerPool(gate, POLICY)

    async def ask() -> None:
        running = [asyncio.create_task(engine.answer([name], 10)) for name in "ab"]
        await _until(lambda: len(gate.asked) == 2)
        gone = asyncio.create_task(engine.answer(["gone"] * 5, 10))
        await _until(lambda: engine.queued_tokens)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert engine.queued_tokens == 0
        gate.open.set()
        await asyncio.gather(*running)

    asyncio.run(ask())
    engine.close()
    assert sorted(gate.asked) == ["a", "b"]


def test_worker_pool_times_out_late_requests(gate: Gate) -> None:
    engine = WorkerPool(gate, POLICY)

    async def ask() -> None:
        running = [asyncio.create_task(engine.answer([name], 10)) for name in "ab"]
        await _until(lambda: len(gate.asked) == 2)
        with pytest.raises(DeadlineExceeded):
            await engine.answer(["late"], 0.05)
        gate.open.set()
        await asyncio.gather(*running)

    asyncio.run(ask())
    engine.close()
    assert "late" not in gate.asked


def test_worker_pool_full_queue_is_rejected(gate: Gate) -> None:
    engine = WorkerPool(gate, SchedulingPolicy(workers=2, max_queue_tokens=10))

    async def ask() -> None:
        running = [asyncio.create_task(engine.answer([name], 10)) for name in "ab"]
        await _until(lambda: len(gate.asked) == 2)
        waiting = asyncio.create_task(engine.answer(["c" * 20], 10))
        await _until(lambda: engine.queued_tokens)
        with pytest.raises(QueueFull) as refused:
            await engine.answer(["d" * 20], 10)
        assert refused.value.retry_after > 0
        gate.open.set()
        await asyncio.gather(*running, waiting)

    asyncio.run(ask())
    engine.close()


def test_request_keeps_its_model_during_reload(classifier: Classifier, gate: Gate) -> None:
    engine = WorkerPool(gate, POLICY)

    async def ask() -> None:
        running = [asyncio.create_task(engine.answer([name] * 3, 10)) for name in "ab"]
        await _until(lambda: len(gate.asked) == 2)
        engine.model = Model("other", classifier)
        gate.open.set()
        assert {(await each).model for each in running} == {gate}
        assert (await engine.answer(["c"], 10)).model.name == "other"

    asyncio.run(ask())
    engine.close()


def test_worker_threads_end_on_close(classifier: Classifier) -> None:
    before = set(threading.enumerate())
    engine = WorkerPool(Model("tiny", classifier), POLICY)
    started = set(threading.enumerate()) - before
    engine.close()
    for thread in started:
        thread.join(10)
    assert len(started) == 2
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_worker_threads_have_lower_priority(classifier: Classifier) -> None:
    engine = WorkerPool(Model("tiny", classifier), POLICY)
    asyncio.run(engine.answer(["late"] * 50, 10))  # both have begun
    own = os.getpriority(os.PRIO_PROCESS, 0)
    found = [os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in engine._threads]
    engine.close()
    assert found == [min(19, own + NICE_INCREMENT)] * 2
