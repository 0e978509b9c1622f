"""Equal lengths together, every sequence once, every answer to its own text."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from manylabel.inference.length_batching import Work, batches, score

LENGTHS = st.lists(st.integers(1, 30), max_size=60)
WINDOWED = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), max_size=30)


def sequences(lengths: list[int]) -> list[NDArray[np.int64]]:
    """Sequences that differ from each other: the first id is the place."""
    return [np.array([place, *range(length - 1)], dtype=np.int64) for place, length in enumerate(lengths)]


def answer(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Stands for a model: two columns that depend on the first id and on the length, row by row."""
    return np.stack([ids[:, 0] / 1000, np.full(len(ids), ids.shape[1] / 100)], axis=1).astype(np.float32)


@given(LENGTHS, st.integers(1, 100))
def test_batches_have_equal_lengths_and_cover_all(lengths: list[int], max_tokens: int) -> None:
    given_ids = sequences(lengths)
    found = list(batches(given_ids, max_tokens=max_tokens))
    assert sorted(place for places, _ in found for place in places.tolist()) == list(range(len(lengths)))
    for places, ids in found:
        assert ids.dtype == np.int64
        for place, row in zip(places, ids, strict=True):
            np.testing.assert_array_equal(row, given_ids[place])


@given(LENGTHS, st.integers(1, 100))
def test_batch_fills_its_token_limit(lengths: list[int], max_tokens: int) -> None:
    found = [ids.shape for _, ids in batches(sequences(lengths), max_tokens=max_tokens)]
    assert all(rows * length <= max_tokens or rows == 1 for rows, length in found)
    for length in set(lengths):
        sizes = [rows for rows, columns in found if columns == length]
        assert all(rows == max(1, max_tokens // length) for rows in sizes[:-1])


@given(LENGTHS)
def test_longest_batches_come_first(lengths: list[int]) -> None:
    found = [ids.shape[1] for _, ids in batches(sequences(lengths))]
    assert found == sorted(found, reverse=True)


@given(WINDOWED, st.integers(1, 50))
def test_text_gets_maximum_of_its_windows(lengths: list[list[int]], max_tokens: int) -> None:
    flat = iter(sequences([length for text in lengths for length in text]))
    texts = [[next(flat) for _ in text] for text in lengths]
    found = score(texts, answer, n_labels=2, max_tokens=max_tokens)
    assert found.shape == (len(texts), 2)
    assert found.dtype == np.float32
    for text, row in zip(texts, found, strict=True):
        np.testing.assert_array_equal(row, np.max([answer(window[None])[0] for window in text], axis=0))


@given(WINDOWED, st.randoms())
def test_order_does_not_matter(lengths: list[list[int]], random: Any) -> None:
    flat = iter(sequences([length for text in lengths for length in text]))
    texts = [[next(flat) for _ in text] for text in lengths]
    order = list(range(len(texts)))
    random.shuffle(order)
    found = score([texts[place] for place in order], answer, n_labels=2)
    np.testing.assert_array_equal(found, score(texts, answer, n_labels=2)[order] if order else found)


def run_backwards(function: Callable[..., Any], items: Any) -> list[Any]:
    items = list(items)
    return [function(item) for item in items[::-1]][::-1]


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_may_run_on_threads(threads: int) -> None:
    texts = [[ids] for ids in sequences([1 + place % 7 for place in range(200)])]
    expected = score(texts, answer, n_labels=2, max_tokens=5)
    with ThreadPoolExecutor(threads) as pool:
        np.testing.assert_array_equal(score(texts, answer, n_labels=2, max_tokens=5, map=pool.map), expected)
    np.testing.assert_array_equal(score(texts, answer, n_labels=2, max_tokens=5, map=run_backwards), expected)


def test_no_texts_give_no_rows() -> None:
    assert score([], answer, n_labels=2).shape == (0, 2)
    assert list(batches([])) == []


def test_token_limit_holds_for_every_batch() -> None:
    shapes = []

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        shapes.append(ids.shape)
        return answer(ids)

    score([[ids] for ids in sequences([3] * 5)], run, n_labels=2, max_tokens=6)
    assert shapes == [(2, 3), (2, 3), (1, 3)]


def test_missing_batch_result_is_an_error() -> None:
    work = Work.of([[ids] for ids in sequences([1, 2])])
    with pytest.raises(ValueError, match="shorter"):
        work.gather([answer(work.batches[0])], n_labels=2)
