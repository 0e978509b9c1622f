"""Batches have one length and lose no sequence, scores return to their texts, and batches split on out-of-memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from manylabel import OutOfMemory
from manylabel.inference import ort_session
from manylabel.inference.length_batching import (
    MAX_OOM_SPLITS,
    LengthBatches,
    group_by_length,
    score_texts,
    split_on_oom,
)
from manylabel.inference.ort_session import Session

LENGTHS = st.lists(st.integers(1, 30), max_size=60)
WINDOWED = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), max_size=30)


def sequences(lengths: list[int]) -> list[NDArray[np.int64]]:
    """Return sequences that differ: the first id is the position."""
    return [np.array([place, *range(length - 1)], dtype=np.int64) for place, length in enumerate(lengths)]


def answer(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Stand in for a model: two columns that depend on a row's first id and length."""
    return np.stack([ids[:, 0] / 1000, np.full(len(ids), ids.shape[1] / 100)], axis=1).astype(np.float32)


@given(LENGTHS, st.integers(1, 100))
def test_batches_have_equal_lengths_and_cover_all(lengths: list[int], max_tokens: int) -> None:
    given_ids = sequences(lengths)
    found = list(group_by_length(given_ids, max_tokens=max_tokens))
    assert sorted(place for places, _ in found for place in places.tolist()) == list(range(len(lengths)))
    for places, ids in found:
        assert ids.dtype == np.int64
        for place, row in zip(places, ids, strict=True):
            np.testing.assert_array_equal(row, given_ids[place])


@given(LENGTHS, st.integers(1, 100))
def test_batch_fills_its_token_limit(lengths: list[int], max_tokens: int) -> None:
    found = [ids.shape for _, ids in group_by_length(sequences(lengths), max_tokens=max_tokens)]
    assert all(rows * length <= max_tokens or rows == 1 for rows, length in found)
    for length in set(lengths):
        sizes = [rows for rows, columns in found if columns == length]
        assert all(rows == max(1, max_tokens // length) for rows in sizes[:-1])


@given(LENGTHS)
def test_longest_batches_come_first(lengths: list[int]) -> None:
    found = [ids.shape[1] for _, ids in group_by_length(sequences(lengths))]
    assert found == sorted(found, reverse=True)


@given(WINDOWED, st.integers(1, 50))
def test_text_gets_maximum_of_its_windows(lengths: list[list[int]], max_tokens: int) -> None:
    flat = iter(sequences([length for text in lengths for length in text]))
    texts = [[next(flat) for _ in text] for text in lengths]
    found = score_texts(texts, answer, n_labels=2, max_tokens=max_tokens)
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
    found = score_texts([texts[place] for place in order], answer, n_labels=2)
    np.testing.assert_array_equal(found, score_texts(texts, answer, n_labels=2)[order] if order else found)


def run_backwards(function: Callable[..., Any], items: Any) -> list[Any]:
    items = list(items)
    return [function(item) for item in items[::-1]][::-1]


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_may_run_on_threads(threads: int) -> None:
    texts = [[ids] for ids in sequences([1 + place % 7 for place in range(200)])]
    expected = score_texts(texts, answer, n_labels=2, max_tokens=5)
    with ThreadPoolExecutor(threads) as pool:
        np.testing.assert_array_equal(score_texts(texts, answer, n_labels=2, max_tokens=5, map=pool.map), expected)
    np.testing.assert_array_equal(score_texts(texts, answer, n_labels=2, max_tokens=5, map=run_backwards), expected)


def test_no_texts_give_no_rows() -> None:
    assert score_texts([], answer, n_labels=2).shape == (0, 2)
    assert list(group_by_length([])) == []


def test_token_limit_holds_for_every_batch() -> None:
    shapes = []

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        shapes.append(ids.shape)
        return answer(ids)

    score_texts([[ids] for ids in sequences([3] * 5)], run, n_labels=2, max_tokens=6)
    assert shapes == [(2, 3), (2, 3), (1, 3)]


def test_missing_batch_result_is_an_error() -> None:
    batches = LengthBatches.from_texts([[ids] for ids in sequences([1, 2])])
    with pytest.raises(ValueError, match="shorter"):
        batches.max_over_windows([answer(batches.token_ids[0])], n_labels=2)


# Split on out-of-memory


class SmallDevice:
    """A device whose memory takes a limited number of rows; records the size of each attempt."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.attempts: list[int] = []

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.attempts.append(len(ids))
        if len(ids) > self.rows:
            raise OutOfMemory(f"{len(ids)} rows")
        return ids.astype(np.float32) * 2


IDS = np.arange(26).reshape(13, 2)


@pytest.mark.parametrize("rows", [13, 12, 6, 3, 1])
def test_split_batches_keep_order(rows: int) -> None:
    np.testing.assert_array_equal(split_on_oom(SmallDevice(rows).run, IDS), IDS * 2)


def test_batch_that_fits_runs_once() -> None:
    device = SmallDevice(13)
    split_on_oom(device.run, IDS)
    assert device.attempts == [13]


def test_out_of_memory_splits_are_bounded() -> None:
    device = SmallDevice(0)
    with pytest.raises(OutOfMemory):
        split_on_oom(device.run, np.zeros((1000, 2), dtype=np.int64))
    assert device.attempts == [1000 // 2**splits for splits in range(MAX_OOM_SPLITS + 1)]
    with pytest.raises(OutOfMemory, match="1 rows"):
        split_on_oom(SmallDevice(0).run, IDS[:1])


def test_session_splits_on_out_of_memory(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is onnxruntime's, as its CUDA allocator words it; the graph is a real one."""
    model, ids = str(bundle / "model.onnx"), np.full((8, 5), 3, dtype=np.int64) + np.arange(8)[:, None]
    whole = Session(model, device="cpu").run(ids)
    real = ort_session.load_onnxruntime()

    class SmallSession(real.InferenceSession):  # type: ignore[misc, name-defined]  # untyped
        def run(self, names: list[str], feeds: dict[str, NDArray[np.int64]]) -> Any:
            if len(feeds["input_ids"]) > 2:
                raise RuntimeError("[ONNXRuntimeError] : 6 : BFCArena: Failed to allocate memory for requested buffer")
            return super().run(names, feeds)

    monkeypatch.setattr(real, "InferenceSession", SmallSession)
    np.testing.assert_allclose(Session(model, device="cpu").run(ids), whole, atol=1e-6)
