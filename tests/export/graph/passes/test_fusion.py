"""Operator fusion: the expected number of operators, and an error for a wrong fusion."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.helpers.architectures import VOCABULARY, make_classifier
from tests.helpers.graphs import (
    SHAPES,
    canonical_graph,
    each_architecture,
    each_engine,
    fused_graph,
    open_session,
    predict_with_graph,
    predict_with_pytorch,
    random_ids,
)
from transformers import (
    AutoModelForSequenceClassification,
    NystromformerConfig,
    PreTrainedModel,
)

from manylabel.errors import ExportError
from manylabel_export.graph import build, torch_export
from manylabel_export.graph.ir.editor import GraphEditor, copy_model
from manylabel_export.graph.passes import fusion
from manylabel_export.graph.passes.attention_fusion import fuse_attention
from manylabel_export.graph.passes.canonicalize import append_sigmoid, canonicalize
from manylabel_export.graph.passes.cls_pruning import prune_last_layer
from manylabel_export.graph.passes.fusion import CPU, CUDA, EXPECTED_FUSIONS, count_fusions, fuse_operators
from manylabel_export.graph.passes.mask_elimination import eliminate_mask


@pytest.mark.parametrize("provider", [CPU, CUDA])
@each_engine
@each_architecture
def test_fusions_are_as_many_as_expected(architecture: str, engine: str, provider: str) -> None:
    config = make_classifier(architecture).config
    assert count_fusions(fused_graph(architecture, provider, engine)) == EXPECTED_FUSIONS[architecture].counts(
        config, provider
    )


def test_bert_fuses_fully() -> None:
    """Written out, so that a mistake in `EXPECTED_FUSIONS` is found."""
    assert count_fusions(fused_graph("bert", CPU)) == {
        "MultiHeadAttention": 2,
        "LayerNormalization": 5,
        "Gelu": 2,
    }
    assert count_fusions(fused_graph("bert", CUDA)) == {
        "Attention": 2,
        "EmbedLayerNormalization": 1,
        "SkipLayerNormalization": 4,
        "BiasGelu": 2,
    }


@pytest.mark.parametrize("provider", [CPU, CUDA])
@each_architecture
def test_fused_graphs_match_pytorch(architecture: str, provider: str) -> None:
    model, plain = make_classifier(architecture), fused_graph(architecture, provider)
    cut, _ = prune_last_layer(plain)
    sessions = [open_session(proto) for proto in (plain, cut)]
    for shape in SHAPES:
        ids = random_ids(*shape)
        for session in sessions:
            np.testing.assert_allclose(predict_with_graph(session, ids), predict_with_pytorch(model, ids), atol=1e-5)


def test_unexpected_fusion_of_known_architecture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPECTED_FUSIONS, "bert", dataclasses.replace(EXPECTED_FUSIONS["bert"], head_gelus=1))
    with pytest.raises(ExportError, match=r"'Gelu': 2\}, but .*'Gelu': 3"):
        build.build_graphs(make_classifier("bert"), precisions=["int8"])


def test_unknown_architecture_is_fused_partially(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(EXPECTED_FUSIONS, "bert")
    assert "no entry in the table" in build.build_graphs(make_classifier("bert"), precisions=["int8"])["int8"].note


def test_wrong_fusion_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def fuse_wrongly(editor: GraphEditor, heads: int, head_size: int, *, packed: bool) -> int:
        count = fuse_attention(editor, heads, head_size, packed=packed)
        node = next(node for node in editor.nodes if node.op_type == "MultiHeadAttention")
        node.input[0], node.input[1] = node.input[1], node.input[0]
        return count

    monkeypatch.setattr(fusion, "fuse_attention", fuse_wrongly)
    with pytest.raises(ExportError, match="Fusing changed a probability by"):
        build.build_graphs(make_classifier("bert"), precisions=["int8"])


def test_wrong_trace_is_rejected_by_padding_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def trace_without_mask(model: PreTrainedModel, **options: Any) -> onnx.ModelProto:
        editor = GraphEditor(torch_export.trace(model, **options))
        shape = editor.add_node("Shape", ["input_ids"], "shape_of_ids")
        ones = numpy_helper.from_array(np.ones(1, np.int64))
        editor.redirect_consumers(
            "attention_mask", editor.add_node("ConstantOfShape", [shape], "no_padding", value=ones)
        )
        return editor.finish()

    monkeypatch.setattr(build, "trace", trace_without_mask)
    with pytest.raises(ExportError, match="Tracing changed a probability by"):
        build.build_graphs(make_classifier("bert"), precisions=["fp32"])


@pytest.mark.parametrize("provider", [CPU, CUDA])
def test_fusion_keeps_position_offset(provider: str) -> None:
    """ONNX Runtime's embedding operator ignores the offset that Nystromformer's positions have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = NystromformerConfig(
            vocab_size=VOCABULARY, max_position_embeddings=64, segment_means_seq_len=64, num_labels=3, **sizes
        )
        model = AutoModelForSequenceClassification.from_config(config).eval()
    traced = append_sigmoid(torch_export.trace(model))
    proto = fuse_operators(eliminate_mask(canonicalize(traced)), config, provider=provider)
    assert "EmbedLayerNormalization" not in count_fusions(proto)
    ids = random_ids(2, 9)
    np.testing.assert_allclose(predict_with_graph(proto, ids), predict_with_pytorch(model, ids), atol=1e-5)


def test_fusion_skips_other_attention_scale() -> None:
    proto = eliminate_mask(canonical_graph("bert"))
    assert fuse_attention(GraphEditor(copy_model(proto)), 2, 16, packed=False) == 2
    assert fuse_attention(GraphEditor(copy_model(proto)), 4, 8, packed=False) == 0


def test_shared_layers_share_weights_in_every_variant() -> None:
    texts = [random_ids(8, 12)]
    few, many = (
        build.build_graphs(make_classifier("albert", num_hidden_layers=layers), batches=texts) for layers in (2, 5)
    )
    for precision, variant in few.items():
        sizes = [weights_of(each.proto) for each in (variant, many[precision])]
        assert sizes[1] < sizes[0] + 4096, precision


def weights_of(proto: onnx.ModelProto) -> int:
    """Return the size in bytes of the tensors that are larger than a scalar or a short shape."""
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer if len(tensor.raw_data) > 256)
