"""A text that comes alone is run on several cores once that is worth while, and answered the same."""

import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from tests.runtime.conftest import Python

from manylabel import Classifier
from manylabel.bundle.variants import Precision
from manylabel.inference.latency_session import OFTEN, Alone, Run
from manylabel.inference.length_batching import Ids, Scores

IDS = np.zeros((1, 4), dtype=np.int64)
NARROW, WIDE = np.float32([[1]]), np.float32([[2]])


def narrow(ids: Ids) -> Scores:
    return NARROW


def wide(ids: Ids) -> Scores:
    return WIDE


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def used(alone: Alone) -> str:
    return "narrow" if alone.run(IDS) is NARROW else "wide"


def asked_often(alone: Alone) -> Alone:
    """Once what it opens is open, or has failed to."""
    assert {used(alone) for _ in range(OFTEN)} == {"narrow"}
    assert alone._wide
    wait([alone._wide], timeout=60)
    return alone


def test_frequent_single_texts_use_several_cores(threads: Executor) -> None:
    opened: list[Run] = []

    def open_wide() -> Run:
        opened.append(wide)
        return wide

    alone = Alone(narrow, open_wide, threads)
    assert not opened
    alone = asked_often(alone)
    assert [used(alone) for _ in range(3)] == ["wide"] * 3
    assert len(opened) == 1


def test_second_session_opens_in_the_background(threads: Executor) -> None:
    go = Event()

    def open_wide() -> Run:
        go.wait(60)
        return wide

    alone = Alone(narrow, open_wide, threads)
    assert {used(alone) for _ in range(OFTEN + 5)} == {"narrow"}
    go.set()


def test_concurrent_call_uses_one_core(threads: Executor) -> None:
    inside, go = Event(), Event()

    def slow(ids: Ids) -> Scores:
        inside.set()
        go.wait(60)
        return WIDE

    alone = asked_often(Alone(narrow, lambda: slow, threads))
    first = threads.submit(alone.run, IDS)
    inside.wait(60)
    assert used(alone) == "narrow"
    go.set()
    assert first.result() is WIDE
    assert used(alone) == "wide"


def test_failed_call_releases_the_session(threads: Executor) -> None:
    def fail(ids: Ids) -> Scores:
        raise ValueError("no")

    alone = asked_often(Alone(narrow, lambda: fail, threads))
    for _ in range(2):  # not narrow, as it would be beside another call
        with pytest.raises(ValueError, match="no"):
            alone.run(IDS)


def test_removed_bundle_stays_on_one_core(threads: Executor, caplog: pytest.LogCaptureFixture) -> None:
    def gone() -> Run:
        raise OSError("no such folder")

    with caplog.at_level(logging.WARNING, "manylabel"):
        alone = asked_often(Alone(narrow, gone, threads))
        assert {used(alone) for _ in range(20)} == {"narrow"}
    assert [record.message for record in caplog.records] == [
        "a text that comes alone stays on one core: no such folder"
    ]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_single_text_is_bit_identical_on_several_cores(bundle: Path, precision: Precision) -> None:
    texts = [" ".join(["parcel", "late"] * n) for n in range(1, 30)]
    classifier = Classifier.load(bundle, device="cpu", precision=precision, threads=3)
    together = classifier.predict_proba(texts)
    for _ in range(3):
        alone = np.concatenate([classifier.predict_proba(text) for text in texts])
        np.testing.assert_array_equal(alone, together)


RESTING = """
import sys, time
from concurrent.futures import wait
from manylabel import Classifier
classifier = Classifier.load(sys.argv[1], device="cpu", threads=3)
alone = classifier._run_alone.__self__
while not alone._wide:
    classifier.predict("late")
wait([alone._wide])
classifier.predict("late " * 25)
started = time.process_time()
time.sleep(0.5)
print(time.process_time() - started)
"""


def test_threads_are_idle_between_texts(bundle: Path, python: Python) -> None:
    done = python(RESTING, bundle)  # a process of its own: others sleep as they like
    assert float(done.stdout) < 0.02, done.stderr  # threads that go on spinning take 0.05
