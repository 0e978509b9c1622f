"""int8 on processors whose products saturate: detected, and computed exactly all the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from manylabel import Bundle, Classifier
from manylabel.inference import ort_session
from manylabel.inference.ort_loader import COLUMNS, DEPTH, MATMUL_INTEGER, ROWS, int8_saturates

TEXTS = ["parcel late", "the app is broken and slow", "gut", "very very very good " * 6]


def before_vnni(a: NDArray[np.uint8], b: NDArray[np.int8]) -> NDArray[np.int32]:
    """Multiply as `vpmaddubsw` and `vpmaddwd` do: pairs along the depth are added in 16 bits, which saturate."""
    products = a[:, :, None].astype(np.int32) * b[None].astype(np.int32)
    pairs = products.reshape(len(a), -1, 2, b.shape[1]).sum(axis=2)
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)


class OldProcessor:
    """onnxruntime on a processor without VNNI."""

    SessionOptions = onnxruntime.SessionOptions

    @staticmethod
    def InferenceSession(*_: object, **__: object) -> SimpleNamespace:  # noqa: N802  # onnxruntime's name
        return SimpleNamespace(run=lambda names, feeds: [before_vnni(feeds["a"], feeds["b"])])


def test_saturating_cpu_is_detected() -> None:
    assert int8_saturates(OldProcessor)


def test_saturation_check_is_an_int8_product() -> None:
    session = onnxruntime.InferenceSession(MATMUL_INTEGER, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    a = generator.integers(0, 128, (ROWS, DEPTH), np.uint8)  # 127 * 127 * 2 still fits in 16 bits
    b = generator.integers(-128, 128, (DEPTH, COLUMNS), np.int8)
    np.testing.assert_array_equal(session.run(None, {"a": a, "b": b})[0], a.astype(np.int32) @ b.astype(np.int32))


@pytest.mark.parametrize("bytes_", [(255, 127), (255, -128), (200, 100)])
def test_emulation_saturates_at_16_bits(bytes_: tuple[int, int]) -> None:
    a, b = np.full((1, 2), bytes_[0], np.uint8), np.full((2, 1), bytes_[1], np.int8)
    exact = 2 * bytes_[0] * bytes_[1]
    assert before_vnni(a, b)[0, 0] == np.clip(exact, -(2**15), 2**15 - 1) != exact


def test_exact_mode_is_bit_identical(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of integers are exact in any order: the unsigned weights of that mode change nothing."""
    expected = Classifier.load(bundle, device="cpu", precision="int8").predict_proba(TEXTS)
    monkeypatch.setattr(ort_session, "int8_saturates", lambda ort: True)
    found = Classifier.load(bundle, device="cpu", precision="int8").predict_proba(TEXTS)
    if not int8_saturates(onnxruntime):
        np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))
    alone = np.concatenate([Classifier.load(bundle, device="cpu", precision="int8").predict_proba(t) for t in TEXTS])
    np.testing.assert_array_equal(found.view(np.int32), alone.view(np.int32))


def test_exact_mode_uses_unsigned_weights(bundle: Path, tmp_path: Path) -> None:
    """`session.x64quantprecision` works for our graphs: no signed weight is left in a MatMul."""
    written = tmp_path / "as_loaded.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.optimized_model_filepath = str(written)
    model = (bundle / Bundle.open(bundle).variants["int8"].file).read_bytes()
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(written).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert products
    assert {kinds[node.input[1]] for node in products} == {onnx.TensorProto.UINT8}
