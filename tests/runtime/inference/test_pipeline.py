"""Texts without end: in order, in bounded memory, with an end whenever the caller or an error wants one."""

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
from manylabel.inference.pipeline import PIECE_TEXTS, WINDOW_CHARACTERS, WINDOW_TEXTS, stream, windows
from manylabel.inference.tokenizer import Encoding

MANY = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(i % 9)) for i in range(2 * WINDOW_TEXTS + 300)]


def tokenise(texts: Sequence[Any], first_row: int) -> list[Encoding | InvalidText]:
    """A text is a number, and its encoding as many ids as its last digit says, the first the number itself."""
    return [
        Encoding((np.array([text, *range(text % 10)]),), n_tokens=text % 10 + 1, truncated=False)
        if isinstance(text, int)
        else InvalidText(f"text {row}")
        for row, text in enumerate(texts, start=first_row)
    ]


def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return ids[:, :1].astype(np.float32)


def answers(texts: Any, threads: ThreadPoolExecutor, **replaced: Callable[..., Any]) -> Iterator[Any]:
    given = {"tokenise": tokenise, "run": run, "run_alone": run, **replaced}
    return stream(texts, **given, n_labels=1, threads=threads)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


# Order and errors


@settings(max_examples=15)
@given(
    st.lists(st.one_of(st.integers(0, 10**6), st.none()), max_size=50), st.sampled_from([1, PIECE_TEXTS, WINDOW_TEXTS])
)
def test_every_text_has_its_own_answer_in_order(texts: list[int | None], repeats: int) -> None:
    texts = (texts * repeats)[: 2 * WINDOW_TEXTS + 7]
    with ThreadPoolExecutor(2) as pool:
        found = list(answers(iter(texts), pool))
    numbers = [value for each in found for value in each.probabilities[:, 0].tolist()]
    assert numbers == [text or 0 for text in texts]
    row = 0
    for each in found:
        assert {row + place: str(error) for place, error in each.errors.items()} == {
            at: f"text {at}" for at in range(row, row + len(each)) if texts[at] is None
        }
        assert each.n_tokens.tolist() == [0 if text is None else text % 10 + 1 for text in texts[row : row + len(each)]]
        row += len(each)


def test_windows_end_by_number_and_by_characters() -> None:
    assert [len(window) for window in windows(["a"] * (WINDOW_TEXTS + 1))] == [WINDOW_TEXTS, 1]
    long = "x" * (WINDOW_CHARACTERS // 4)
    assert [len(window) for window in windows([long] * 9)] == [4, 4, 1]
    assert list(windows([])) == []


def test_a_stream_predicts_what_a_list_does(classifier: Classifier) -> None:
    assert list(classifier.stream(text for text in MANY)) == classifier.classify(MANY)
    assert list(classifier.stream([])) == []


def test_one_bad_text_leaves_its_neighbours_their_answers(own_bundle: Path, resign: Resign) -> None:
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    classifier = Classifier.load(own_bundle, device="cpu", threads=2)
    texts: list[Any] = list(MANY[: WINDOW_TEXTS + 10])
    texts[3], texts[WINDOW_TEXTS + 2] = None, "late " * 40
    first, second = classifier.predict_batches(texts)
    assert (list(first.errors), list(second.errors)) == ([3], [2])
    assert str(first.errors[3]).startswith("text 3 is NoneType")
    assert isinstance(second.errors[2], TextTooLong)
    good = [text for place, text in enumerate(texts) if place not in (3, WINDOW_TEXTS + 2)]
    found = np.delete(np.concatenate([first.probabilities, second.probabilities]), [3, WINDOW_TEXTS + 2], axis=0)
    np.testing.assert_array_equal(found, classifier.predict_proba(good))
    with pytest.raises(TextTooLong, match=f"text {WINDOW_TEXTS + 2} has 42 tokens"):
        list(classifier.stream([*texts[:3], "", *texts[4:]]))


def test_one_string_is_no_stream(classifier: Classifier) -> None:
    with pytest.raises(InvalidText, match="one string"):
        classifier.stream("late")


# Bounded, and over when it should be


def test_a_stream_without_end_is_read_no_further_than_three_windows_ahead(threads: ThreadPoolExecutor) -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for number in itertools.count(1):
            read = number
            yield number

    given_out = 0
    for each in itertools.islice(answers(source(), threads), 10):
        assert read - given_out <= 3 * WINDOW_TEXTS
        given_out += len(each)


def test_tokenising_goes_on_while_batches_run(threads: ThreadPoolExecutor) -> None:
    """A run of the first window that waits for the second to be tokenised ends: they overlap."""
    second = threading.Event()

    def tokenise_and_tell(texts: Sequence[Any], first_row: int) -> list[Any]:
        if first_row >= WINDOW_TEXTS:
            second.set()
        return tokenise(texts, first_row)

    def run_and_wait(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        assert second.wait(30)
        return run(ids)

    found = list(answers(range(2 * WINDOW_TEXTS), threads, tokenise=tokenise_and_tell, run=run_and_wait))
    assert [len(each) for each in found] == [WINDOW_TEXTS] * 2


def test_a_stream_that_is_closed_takes_back_what_has_not_begun(threads: ThreadPoolExecutor) -> None:
    ran, go = itertools.count(), threading.Event()

    def slow(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if next(ran) > 100:
            assert go.wait(30)
        return run(ids)

    opened = answers(itertools.count(), threads, run=slow)
    next(opened)
    opened.close()
    go.set()
    threads.shutdown(wait=True)
    assert next(ran) < 400  # a window has some 90 batches; three were begun at most, of a stream without end


@pytest.mark.parametrize("where", ["source", "tokenise", "run"])
def test_an_error_anywhere_comes_to_the_caller_and_ends_the_work(threads: ThreadPoolExecutor, where: str) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("the disk is gone")

    def source() -> Iterator[int]:
        yield from range(3 * WINDOW_TEXTS)
        if where == "source":
            fail()

    replaced = {} if where == "source" else {where: fail}
    with pytest.raises(OSError, match="the disk is gone"):
        list(answers(source(), threads, **replaced))
    assert [len(each) for each in answers(range(5), threads)] == [5]


def test_several_streams_share_a_classifier(classifier: Classifier) -> None:
    expected = classifier.predict_proba(MANY)
    streams = [classifier.predict_batches(iter(MANY)) for _ in range(3)]
    for parts in zip(*streams, strict=True):
        for part in parts[1:]:
            np.testing.assert_array_equal(part.probabilities, parts[0].probabilities)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(classifier.predict_proba, [MANY] * 4):
            np.testing.assert_array_equal(found, expected)


def test_a_stream_ends_while_the_interpreter_shuts_down(bundle: Path, python: Python) -> None:
    """One that was begun before, when no pool takes work any more."""
    done = python(
        "import atexit, sys\n"
        "from manylabel import Classifier\n"
        "classifier = Classifier.load(sys.argv[1], device='cpu', threads=2)\n"
        "begun = classifier.stream(['late', 'the parcel'] * 9000)\n"
        "next(begun)\n"
        "atexit.register(lambda: print(1 + sum(1 for _ in begun)))",
        bundle,
    )
    assert (done.returncode, done.stdout) == (0, "18000\n"), done.stderr


def test_no_thread_is_added_to_those_that_were_asked_for(bundle: Path, python: Python) -> None:
    """The tokeniser's library would start one for each core of the machine, and onnxruntime as well."""
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


def test_the_users_word_on_the_tokenisers_threads_stays(bundle: Path, python: Python) -> None:
    script = "import os, manylabel; print(os.environ['TOKENIZERS_PARALLELISM'])"
    assert python(script, TOKENIZERS_PARALLELISM="true").stdout == "true\n"
