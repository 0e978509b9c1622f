"""fp16: close to PyTorch, and finite where fp16 would overflow."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from tests.helpers.architectures import make_classifier
from tests.helpers.graphs import each_architecture, fused_graph, predict_with_graph, predict_with_pytorch, random_ids

from manylabel_export.graph import build
from manylabel_export.graph.passes.cls_pruning import prune_last_layer
from manylabel_export.graph.passes.fp16 import convert_to_fp16
from manylabel_export.graph.passes.fusion import CUDA


@each_architecture
def test_fp16_parity_and_interface(architecture: str) -> None:
    proto = convert_to_fp16(prune_last_layer(fused_graph(architecture, CUDA))[0])
    ids = random_ids(8, 12)
    probabilities = predict_with_graph(proto, ids)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, predict_with_pytorch(make_classifier(architecture), ids), atol=1e-2)
    fp16_tensors = [tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert len(fp16_tensors) > 10
    assert all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in fp16_tensors)


@each_architecture
def test_fp16_can_keep_layers_in_fp32(architecture: str) -> None:
    """With all of them in fp32, only embeddings, normalisations and the scores of unfused attention are rounded."""
    graph, ids = build.build_graphs(make_classifier(architecture), precisions=["fp16"])["fp16"], random_ids(8, 12)
    expected = predict_with_pytorch(make_classifier(architecture), ids)
    none, all_ = (
        np.abs(predict_with_graph(graph.with_fp32_layers(names).proto, ids) - expected).mean()
        for names in (list(graph.layer_sizes), [])
    )
    assert none < all_
    for name in graph.layer_sizes:
        assert graph.with_fp32_layers([name]).proto != graph.proto, name


def test_fp16_overflowing_weights_stay_fp32() -> None:
    model = make_classifier("bert")
    with torch.no_grad():
        model.bert.pooler.dense.bias[0] = 1e5
    proto = build.build_graphs(model, precisions=["fp16"])["fp16"].proto
    peaks = [float(np.abs(numpy_helper.to_array(tensor)).max()) for tensor in proto.graph.initializer if tensor.dims]
    assert 1e5 in peaks
    np.testing.assert_allclose(
        predict_with_graph(proto, random_ids(4, 9)), predict_with_pytorch(model, random_ids(4, 9)), atol=1e-2
    )


def test_fp16_overflowing_activations_stay_fp32() -> None:
    """A normalisation brings them back, so fp32 is unaffected and fp16 would return NaN."""
    model = make_classifier("bert")
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight *= (
            1e5 / model.bert.encoder.layer[0].output.dense.weight.abs().max() / 2
        )
    ids = random_ids(4, 9)
    uncalibrated = build.build_graphs(model, precisions=["fp16"])["fp16"].proto
    assert not np.isfinite(predict_with_graph(uncalibrated, ids)).all()
    calibrated = build.build_graphs(model, precisions=["fp16"], batches=[random_ids(8, 12, seed=1)])["fp16"].proto
    np.testing.assert_allclose(predict_with_graph(calibrated, ids), predict_with_pytorch(model, ids), atol=1e-2)
    fp16_tensors = [tensor for tensor in calibrated.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert len(fp16_tensors) > 10
