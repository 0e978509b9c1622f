"""Repeated single texts run on several cores, with the same bits."""

import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from tests.runtime.conftest import Python

from manylabel import Classifier
from manylabel.bundle.variants import Precision
from manylabel.inference.latency_session import CALLS_BEFORE_OPENING, LatencySession
from manylabel.inference.length_batching import Probabilities, RunBatch, TokenIds

IDS = np.zeros((1, 4), dtype=np.int64)
ONE_CORE, SEVERAL_CORES = np.float32([[1]]), np.float32([[2]])


def run_on_one_core(ids: TokenIds) -> Probabilities:
    return ONE_CORE


def run_on_several_cores(ids: TokenIds) -> Probabilities:
    return SEVERAL_CORES


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def used_by(session: LatencySession) -> str:
    return "one core" if session.run(IDS) is ONE_CORE else "several cores"


def opened(session: LatencySession, executor: Executor) -> LatencySession:
    """Call a session until it opens the second one, and wait until that has succeeded or failed."""
    assert {used_by(session) for _ in range(CALLS_BEFORE_OPENING)} == {"one core"}
    executor.submit(lambda: None).result(60)  # then its only thread has opened the second one
    return session


def test_frequent_single_texts_use_several_cores(executor: Executor) -> None:
    calls: list[str] = []

    def open_multithreaded() -> RunBatch:
        calls.append("open")
        return run_on_several_cores

    session = LatencySession(run_on_one_core, open_multithreaded, executor)
    assert not calls
    session = opened(session, executor)
    assert [used_by(session) for _ in range(3)] == ["several cores"] * 3
    assert len(calls) == 1


def test_second_session_opens_in_the_background(executor: Executor) -> None:
    release = Event()

    def open_multithreaded() -> RunBatch:
        release.wait(60)
        return run_on_several_cores

    session = LatencySession(run_on_one_core, open_multithreaded, executor)
    assert {used_by(session) for _ in range(CALLS_BEFORE_OPENING + 5)} == {"one core"}
    release.set()


def test_concurrent_call_uses_one_core(executor: Executor) -> None:
    inside, release = Event(), Event()

    def slow(ids: TokenIds) -> Probabilities:
        inside.set()
        release.wait(60)
        return SEVERAL_CORES

    session = opened(LatencySession(run_on_one_core, lambda: slow, executor), executor)
    first = executor.submit(session.run, IDS)
    inside.wait(60)
    assert used_by(session) == "one core"
    release.set()
    assert first.result() is SEVERAL_CORES
    assert used_by(session) == "several cores"


def test_failed_call_releases_the_session(executor: Executor) -> None:
    def fail(ids: TokenIds) -> Probabilities:
        raise ValueError("no")

    session = opened(LatencySession(run_on_one_core, lambda: fail, executor), executor)
    for _ in range(2):  # the second would take one core if the first still counted
        with pytest.raises(ValueError, match="no"):
            session.run(IDS)


def test_removed_bundle_stays_on_one_core(executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> RunBatch:
        raise OSError("no such folder")

    with caplog.at_level(logging.WARNING, "manylabel"):
        session = opened(LatencySession(run_on_one_core, fail, executor), executor)
        assert {used_by(session) for _ in range(20)} == {"one core"}
    assert [record.message for record in caplog.records] == ["single texts stay on one core: no such folder"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_single_text_is_bit_identical_on_several_cores(bundle: Path, precision: Precision) -> None:
    texts = [" ".join(["parcel", "late"] * n) for n in range(1, 30)]
    classifier = Classifier.load(bundle, device="cpu", precision=precision, threads=3)
    batched = classifier.predict_proba(texts)
    for _ in range(3):
        single = np.concatenate([classifier.predict_proba(text) for text in texts])
        np.testing.assert_array_equal(single, batched)


IDLE = """
import os, sys, time
from manylabel import Classifier

classifier = Classifier.load(sys.argv[1], device="cpu", threads=3)
classifier.predict(["late", "good", "the parcel"] * 400)  # starts the classifier's own threads
before = len(os.listdir("/proc/self/task"))
while len(os.listdir("/proc/self/task")) < before + 2:  # the second session adds two to the caller's
    classifier.predict("late")
time.sleep(1)  # until the second session is open
classifier.predict("late " * 25)
started = time.process_time()
time.sleep(0.5)
print(time.process_time() - started)
"""


@pytest.mark.timeout(60)
def test_threads_are_idle_between_texts(bundle: Path, python: Python) -> None:
    done = python(IDLE, bundle)  # a process of its own, without other threads
    assert float(done.stdout) < 0.02, done.stderr  # spinning threads take 0.05
