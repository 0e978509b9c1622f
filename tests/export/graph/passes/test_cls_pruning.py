"""CLS pruning: the last layer for the first token only, if the head reads no other."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.helpers.architectures import make_classifier
from tests.helpers.graphs import ARCHITECTURES, fused_graph, predict_with_graph, predict_with_pytorch, random_ids

from manylabel_export.graph import build
from manylabel_export.graph.ir.editor import GraphEditor, copy_model
from manylabel_export.graph.passes.cls_pruning import prune_last_layer
from manylabel_export.graph.passes.fusion import CPU, CUDA, EXPECTED_FUSIONS


@pytest.mark.parametrize("provider", [CPU, CUDA])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if EXPECTED_FUSIONS[name].attention])
def test_last_layer_computes_first_token_only(architecture: str, provider: str) -> None:
    cut, is_cut = prune_last_layer(fused_graph(architecture, provider))
    assert is_cut
    activations = [node.output[0] for node in cut.graph.node if node.op_type in ("BiasGelu", "FastGelu", "Gelu")]
    for name in activations:
        cut.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    answers = [predict_with_graph(cut, random_ids(2, 9), output=name) for name in activations]
    assert [each.shape[1] for each in answers if each.ndim == 3] == [9, 1]  # the head's activation has no token axis


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if not EXPECTED_FUSIONS[name].attention])
def test_unrecognised_graph_is_not_pruned(architecture: str) -> None:
    assert not prune_last_layer(fused_graph(architecture, CPU))[1]


def test_head_reading_all_tokens_is_not_pruned() -> None:
    editor = GraphEditor(copy_model(fused_graph("bert", CPU)))
    head = next(node for node in editor.nodes if node.op_type == "Gather" and "pooler" in node.output[0])
    mean = editor.add_node("ReduceMean", [head.input[0]], "mean", axes=[1], keepdims=0)
    editor.replace_tensor(head.output[0], mean)
    assert not prune_last_layer(editor.finish())[1]


def test_single_layer_model_is_pruned() -> None:
    model = make_classifier("bert", num_hidden_layers=1)
    built = build.build_graphs(model)
    assert built["int8"].is_pruned
    assert built["fp16"].is_pruned
    np.testing.assert_allclose(
        predict_with_graph(built["fp16"].proto, random_ids(2, 5)),
        predict_with_pytorch(model, random_ids(2, 5)),
        atol=5e-3,
    )
