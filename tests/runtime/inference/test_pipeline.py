"""Predictions for an iterable of any length: in order, in bounded memory, stopped by the caller or an error."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.helpers.toy import WORDS
from tests.runtime.conftest import Python, Resign

from manylabel import Classifier, InvalidText, TextTooLong
from manylabel.inference.pipeline import (
    CHUNK_CHARACTERS,
    CHUNK_TEXTS,
    TOKENIZER_BATCH_TEXTS,
    Pipeline,
    split_into_chunks,
)
from manylabel.inference.predictions import PredictionBatch
from manylabel.inference.tokenizer import Encoding

MANY = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(i % 9)) for i in range(2 * CHUNK_TEXTS + 300)]


def tokenize(texts: Sequence[Any], first_row: int) -> list[Encoding | InvalidText]:
    """Encode an integer as itself and as many further ids as its last digit; anything else is an error."""
    return [
        Encoding((np.array([text, *range(text % 10)]),), n_tokens=text % 10 + 1, truncated=False)
        if isinstance(text, int)
        else InvalidText(f"text {row}")
        for row, text in enumerate(texts, start=first_row)
    ]


def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return ids[:, :1].astype(np.float32)


def predict(texts: Any, executor: ThreadPoolExecutor, **replaced: Callable[..., Any]) -> Iterator[PredictionBatch]:
    stages: dict[str, Any] = {"tokenize": tokenize, "run": run, "run_single": run, **replaced}
    return Pipeline(**stages, n_labels=1, executor=executor).predict(texts)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


# Order and errors


@settings(max_examples=15)
@given(
    st.lists(st.one_of(st.integers(0, 10**6), st.none()), max_size=50),
    st.sampled_from([1, TOKENIZER_BATCH_TEXTS, CHUNK_TEXTS]),
)
def test_stream_keeps_order(texts: list[int | None], repeats: int) -> None:
    texts = (texts * repeats)[: 2 * CHUNK_TEXTS + 7]
    with ThreadPoolExecutor(2) as pool:
        found = list(predict(iter(texts), pool))
    numbers = [value for each in found for value in each.probabilities[:, 0].tolist()]
    assert numbers == [text or 0 for text in texts]
    row = 0
    for each in found:
        assert {row + place: str(error) for place, error in each.errors.items()} == {
            at: f"text {at}" for at in range(row, row + len(each)) if texts[at] is None
        }
        assert each.n_tokens.tolist() == [0 if text is None else text % 10 + 1 for text in texts[row : row + len(each)]]
        row += len(each)


def test_chunks_are_limited_by_count_and_characters() -> None:
    assert [len(chunk) for chunk in split_into_chunks(["a"] * (CHUNK_TEXTS + 1))] == [CHUNK_TEXTS, 1]
    long = "x" * (CHUNK_CHARACTERS // 4)
    assert [len(chunk) for chunk in split_into_chunks([long] * 9)] == [4, 4, 1]
    assert list(split_into_chunks([])) == []


def test_stream_equals_classify(classifier: Classifier) -> None:
    assert list(classifier.stream(text for text in MANY)) == classifier.classify(MANY)
    assert list(classifier.stream([])) == []


def test_bad_text_does_not_affect_others(own_bundle: Path, resign: Resign) -> None:
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    classifier = Classifier.load(own_bundle, device="cpu", threads=2)
    texts: list[Any] = list(MANY[: CHUNK_TEXTS + 10])
    texts[3], texts[CHUNK_TEXTS + 2] = None, "late " * 40
    first, second = classifier.predict_batches(texts)
    assert (list(first.errors), list(second.errors)) == ([3], [2])
    assert str(first.errors[3]).startswith("text 3 is NoneType")
    assert isinstance(second.errors[2], TextTooLong)
    good = [text for place, text in enumerate(texts) if place not in (3, CHUNK_TEXTS + 2)]
    found = np.delete(np.concatenate([first.probabilities, second.probabilities]), [3, CHUNK_TEXTS + 2], axis=0)
    np.testing.assert_array_equal(found, classifier.predict_proba(good))
    with pytest.raises(TextTooLong, match=f"text {CHUNK_TEXTS + 2} has 42 tokens"):
        list(classifier.stream([*texts[:3], "", *texts[4:]]))


def test_stream_rejects_a_single_string(classifier: Classifier) -> None:
    with pytest.raises(InvalidText, match="texts is one string"):
        classifier.stream("late")


# Bounded memory and cancellation


def test_stream_reads_ahead_at_most_three_chunks(executor: ThreadPoolExecutor) -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for number in itertools.count(1):
            read = number
            yield number

    consumed = 0
    for each in itertools.islice(predict(source(), executor), 10):
        assert read - consumed <= 3 * CHUNK_TEXTS
        consumed += len(each)


def test_tokenization_overlaps_inference(executor: ThreadPoolExecutor) -> None:
    """Running the first chunk waits until the second is tokenized: without overlap it would time out."""
    second = threading.Event()

    def tokenize_and_signal(texts: Sequence[Any], first_row: int) -> list[Any]:
        if first_row >= CHUNK_TEXTS:
            second.set()
        return tokenize(texts, first_row)

    def run_and_wait(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        assert second.wait(30)
        return run(ids)

    found = list(predict(range(2 * CHUNK_TEXTS), executor, tokenize=tokenize_and_signal, run=run_and_wait))
    assert [len(each) for each in found] == [CHUNK_TEXTS] * 2


def test_closed_stream_cancels_pending_work(executor: ThreadPoolExecutor) -> None:
    ran, go = itertools.count(), threading.Event()

    def slow(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if next(ran) > 100:
            assert go.wait(30)
        return run(ids)

    opened = predict(itertools.count(), executor, run=slow)
    next(opened)
    opened.close()
    go.set()
    executor.shutdown(wait=True)
    assert next(ran) < 400  # a chunk has some 90 batches, and at most three chunks were started


@pytest.mark.parametrize("where", ["source", "tokenize", "run"])
def test_stream_errors_propagate_and_stop_work(executor: ThreadPoolExecutor, where: str) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("the disk is gone")

    def source() -> Iterator[int]:
        yield from range(3 * CHUNK_TEXTS)
        if where == "source":
            fail()

    replaced = {} if where == "source" else {where: fail}
    with pytest.raises(OSError, match="the disk is gone"):
        list(predict(source(), executor, **replaced))
    assert [len(each) for each in predict(range(5), executor)] == [5]


def test_several_streams_share_a_classifier(classifier: Classifier) -> None:
    expected = classifier.predict_proba(MANY)
    streams = [classifier.predict_batches(iter(MANY)) for _ in range(3)]
    for parts in zip(*streams, strict=True):
        for part in parts[1:]:
            np.testing.assert_array_equal(part.probabilities, parts[0].probabilities)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(classifier.predict_proba, [MANY] * 4):
            np.testing.assert_array_equal(found, expected)


def test_stream_at_interpreter_shutdown(bundle: Path, python: Python) -> None:
    """It was started before; by then no pool accepts work."""
    done = python(
        "import atexit, sys\n"
        "from manylabel import Classifier\n"
        "classifier = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
        "started = classifier.stream(['late', 'the parcel'] * 9000)\n"
        "next(started)\n"
        "atexit.register(lambda: print(1 + sum(1 for _ in started)))",
        bundle,
    )
    assert (done.returncode, done.stdout) == (0, "18000\n"), done.stderr


def test_stream_uses_requested_threads_only(bundle: Path, python: Python) -> None:
    """By default both tokenizers and onnxruntime would start a thread per core of the machine."""
    done = python(
        "import os, sys\n"
        "os.environ.pop('TOKENIZERS_PARALLELISM', None)\n"
        "from manylabel import Classifier\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "classifier = Classifier.load(sys.argv[1], device='cpu', threads=3)\n"
        "classifier.predict_proba(['late ' * (i % 20) for i in range(9000)])\n"
        "print(len(os.listdir('/proc/self/task')) - before)",
        bundle,
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_tokenizers_parallelism_setting_is_respected(bundle: Path, python: Python) -> None:
    script = "import os, manylabel; print(os.environ['TOKENIZERS_PARALLELISM'])"
    assert python(script, TOKENIZERS_PARALLELISM="true").stdout == "true\n"
