"""The worker pool: real threads and a real model between an event loop and the scheduler."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from manylabel import Classifier, InvalidText
from manylabel.server.scheduler import QueueFull, SchedulingPolicy
from manylabel.server.served_model import BatchResult, ServedModel
from manylabel.server.worker_pool import NICE_INCREMENT, DeadlineExceeded, WorkerPool

POLICY = SchedulingPolicy(workers=2, max_queue_tokens=10_000)


class GatedModel(ServedModel):
    """A model that computes only after `open` is set."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__("tiny", classifier)
        self.open = threading.Event()
        self.computed: list[str] = []

    def compute(self, texts: Sequence[str]) -> BatchResult:
        self.computed += texts
        assert self.open.wait(10)
        if "broken" in texts:
            raise ZeroDivisionError
        return super().compute(texts)


@pytest.fixture
def gate(classifier: Classifier) -> Iterator[GatedModel]:
    gate = GatedModel(classifier)
    yield gate
    gate.open.set()


async def _until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.001)


def test_worker_pool_matches_the_classifier(classifier: Classifier) -> None:
    texts = [f"the parcel was late {'late ' * n}" for n in range(60)]
    pool = WorkerPool(ServedModel("tiny", classifier), POLICY)

    async def requests() -> None:
        singles = asyncio.gather(*(pool.compute([text], 10) for text in texts))
        many = await pool.compute(texts, 10)
        expected = classifier.predict_proba(texts)
        np.testing.assert_array_equal([result.probabilities for result in many.results], expected)
        np.testing.assert_array_equal([each.results[0].probabilities for each in await singles], expected)
        assert many.timings.queue >= 0
        assert many.timings.inference > 0

    asyncio.run(requests())
    pool.close()


def test_worker_pool_batches_match_single_texts(classifier: Classifier) -> None:
    texts = [f"the parcel was late {'late ' * n}" for n in range(60)]
    pool = WorkerPool(ServedModel("tiny", classifier), SchedulingPolicy(1, 10_000, batch_tokens=200, batch_wait=0.01))

    async def requests() -> None:
        singles = await asyncio.gather(*(pool.compute([text], 10) for text in texts))
        expected = classifier.predict_proba(texts)
        np.testing.assert_array_equal([each.results[0].probabilities for each in singles], expected)

    asyncio.run(requests())
    pool.close()


def test_worker_pool_error_affects_one_request(classifier: Classifier) -> None:
    """Whether a text is invalid or the model has a bug; the thread survives."""
    model = GatedModel(classifier)
    model.open.set()
    pool = WorkerPool(model, SchedulingPolicy(1, 10_000, batch_tokens=200, batch_wait=0.02))

    async def requests() -> None:
        good, bad = await asyncio.gather(
            pool.compute(["good"], 10),
            pool.compute([3], 10),
            return_exceptions=True,  # type: ignore[list-item]
        )
        assert isinstance(bad, TypeError | InvalidText)
        assert not isinstance(good, BaseException)
        with pytest.raises(ZeroDivisionError):
            await pool.compute(["broken"], 10)
        await pool.compute(["good"], 10)

    asyncio.run(requests())
    pool.close()


def test_worker_pool_skips_cancelled_requests(gate: GatedModel) -> None:
    pool = WorkerPool(gate, POLICY)

    async def requests() -> None:
        running = [asyncio.create_task(pool.compute([name], 10)) for name in "ab"]
        await _until(lambda: len(gate.computed) == 2)
        cancelled = asyncio.create_task(pool.compute(["cancelled"] * 5, 10))
        await _until(lambda: pool.queued_tokens)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert pool.queued_tokens == 0
        gate.open.set()
        await asyncio.gather(*running)

    asyncio.run(requests())
    pool.close()
    assert sorted(gate.computed) == ["a", "b"]


def test_worker_pool_times_out_late_requests(gate: GatedModel) -> None:
    pool = WorkerPool(gate, POLICY)

    async def requests() -> None:
        running = [asyncio.create_task(pool.compute([name], 10)) for name in "ab"]
        await _until(lambda: len(gate.computed) == 2)
        with pytest.raises(DeadlineExceeded):
            await pool.compute(["late"], 0.05)
        gate.open.set()
        await asyncio.gather(*running)

    asyncio.run(requests())
    pool.close()
    assert "late" not in gate.computed


def test_worker_pool_full_queue_is_rejected(gate: GatedModel) -> None:
    pool = WorkerPool(gate, SchedulingPolicy(workers=2, max_queue_tokens=10))

    async def requests() -> None:
        running = [asyncio.create_task(pool.compute([name], 10)) for name in "ab"]
        await _until(lambda: len(gate.computed) == 2)
        waiting = asyncio.create_task(pool.compute(["c" * 20], 10))
        await _until(lambda: pool.queued_tokens)
        with pytest.raises(QueueFull) as full:
            await pool.compute(["d" * 20], 10)
        assert full.value.retry_after > 0
        gate.open.set()
        await asyncio.gather(*running, waiting)

    asyncio.run(requests())
    pool.close()


def test_request_keeps_its_model_during_reload(classifier: Classifier, gate: GatedModel) -> None:
    pool = WorkerPool(gate, POLICY)

    async def requests() -> None:
        running = [asyncio.create_task(pool.compute([name] * 3, 10)) for name in "ab"]
        await _until(lambda: len(gate.computed) == 2)
        pool.model = ServedModel("other", classifier)
        gate.open.set()
        assert {(await each).model for each in running} == {gate}
        assert (await pool.compute(["c"], 10)).model.name == "other"

    asyncio.run(requests())
    pool.close()


def test_worker_threads_end_on_close(classifier: Classifier) -> None:
    before = set(threading.enumerate())
    pool = WorkerPool(ServedModel("tiny", classifier), POLICY)
    started = set(threading.enumerate()) - before
    pool.close()
    for thread in started:
        thread.join(10)
    assert len(started) == 2
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority per thread")
def test_worker_threads_have_lower_priority(classifier: Classifier) -> None:
    before = set(threading.enumerate())
    pool = WorkerPool(ServedModel("tiny", classifier), POLICY)
    asyncio.run(pool.compute(["late"] * 50, 10))  # starts both threads
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    workers = [
        os.getpriority(os.PRIO_PROCESS, thread.native_id or 0)
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("manylabel-worker")
    ]
    pool.close()
    assert workers == [min(19, priority + NICE_INCREMENT)] * 2
