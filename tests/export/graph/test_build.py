"""Graphs of a PyTorch classifier: the same probabilities at every length and batch size."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tests.helpers.architectures import make_classifier
from tests.helpers.graphs import (
    SHAPES,
    canonical_graph,
    each_architecture,
    each_engine,
    open_session,
    padding_mask,
    predict_with_graph,
    predict_with_pytorch,
    random_ids,
)

from manylabel.errors import ExportError
from manylabel_export.graph import build
from manylabel_export.graph.passes.fusion import CPU


@each_engine
@each_architecture
def test_graph_matches_pytorch(architecture: str, engine: str) -> None:
    model, session = make_classifier(architecture), open_session(canonical_graph(architecture, engine))
    for shape in SHAPES:
        ids = random_ids(*shape)
        for mask in (None, padding_mask(ids)):
            np.testing.assert_allclose(
                predict_with_graph(session, ids, mask), predict_with_pytorch(model, ids, mask), atol=1e-5
            )


@each_architecture
def test_toy_classifiers_give_different_scores(architecture: str) -> None:
    """Otherwise the comparisons of this file could not fail."""
    spread = predict_with_graph(canonical_graph(architecture), random_ids(16, 7)).std(axis=0)
    assert spread.min() > 0.01


@each_architecture
def test_the_mask_matters(architecture: str) -> None:
    ids = random_ids(4, 9)
    assert (
        np.abs(
            predict_with_graph(canonical_graph(architecture), ids)
            - predict_with_graph(canonical_graph(architecture), ids, padding_mask(ids))
        ).max()
        > 1e-3
    )


@each_engine
@each_architecture
def test_portable_graph_uses_standard_operators(architecture: str, engine: str) -> None:
    proto = canonical_graph(architecture, engine)
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
    ids = random_ids(3, 5)
    logits = predict_with_graph(canonical_graph("bert"), ids, output="logits")
    assert logits.shape == (3, 4)
    np.testing.assert_allclose(predict_with_graph(canonical_graph("bert"), ids), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_build_returns_requested_precisions() -> None:
    built = build.build_graphs(make_classifier("bert"), precisions=("int8", "fp32"))
    assert list(built) == ["int8", "fp32"]
    assert built["int8"].provider == CPU
    assert built["int8"].fusions == {"MultiHeadAttention": 2, "LayerNormalization": 5, "Gelu": 2}
    assert built["fp32"].fusions == {}
    assert [value.name for value in built["int8"].proto.graph.output] == ["probabilities", "logits"]


def test_unknown_precision_is_rejected() -> None:
    with pytest.raises(ExportError, match="one of fp32, int8, fp16, not 'bf16'"):
        build.build_graphs(make_classifier("bert"), precisions=["bf16"])
