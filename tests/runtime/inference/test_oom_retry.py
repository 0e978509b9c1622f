"""A batch that does not fit is answered in parts, in order, and not for ever."""

from pathlib import Path

import numpy as np
import pytest
from manylabel.inference.oom_retry import SPLITS, in_halves
from numpy.typing import NDArray

from manylabel import OutOfMemory
from manylabel.inference.ort_session import Session


class Device:
    """Takes so many rows at once, and remembers what it was asked."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.asked: list[int] = []

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.asked.append(len(ids))
        if len(ids) > self.rows:
            raise OutOfMemory(f"{len(ids)} rows")
        return ids.astype(np.float32) * 2


IDS = np.arange(26).reshape(13, 2)


@pytest.mark.parametrize("rows", [13, 12, 6, 3, 1])
def test_split_batches_keep_order(rows: int) -> None:
    np.testing.assert_array_equal(in_halves(Device(rows).run, IDS), IDS * 2)


def test_batch_that_fits_runs_once() -> None:
    device = Device(13)
    in_halves(device.run, IDS)
    assert device.asked == [13]


def test_out_of_memory_splits_are_bounded() -> None:
    device = Device(0)
    with pytest.raises(OutOfMemory):
        in_halves(device.run, np.zeros((1000, 2), dtype=np.int64))
    assert device.asked == [1000 // 2**splits for splits in range(SPLITS + 1)]
    with pytest.raises(OutOfMemory, match="1 rows"):
        in_halves(Device(0).run, IDS[:1])


def test_session_splits_on_out_of_memory(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's own words, as its CUDA arena says them; the graph that answers is a real one."""
    session = Session((bundle / "model.onnx").read_bytes(), device="cpu")
    ids = np.full((8, 5), 3, dtype=np.int64) + np.arange(8)[:, None]
    whole, graph = session.run(ids), session._session

    class Small:
        def run(self, names: list[str], feeds: dict[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
            if len(feeds["input_ids"]) > 2:
                raise RuntimeError("[ONNXRuntimeError] : 6 : BFCArena: Failed to allocate memory for requested buffer")
            found: list[NDArray[np.float32]] = graph.run(names, feeds)
            return found

    monkeypatch.setattr(session, "_session", Small())
    np.testing.assert_allclose(session.run(ids), whole, atol=1e-6)
