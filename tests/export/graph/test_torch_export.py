"""PyTorch to ONNX with both engines: the model is not changed, and errors are explained."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import TensorProto
from tests.helpers.architectures import make_classifier
from tests.helpers.graphs import (
    ENGINES,
    canonical_graph,
    each_architecture,
    each_engine,
    fused_graph,
    predict_with_graph,
    predict_with_pytorch,
    random_ids,
)
from transformers import (
    BertForSequenceClassification,
)

from manylabel.errors import ExportError
from manylabel_export.graph import torch_export
from manylabel_export.graph.passes.canonicalize import append_sigmoid
from manylabel_export.graph.passes.fusion import CPU, CUDA, count_fusions


@pytest.mark.skipif(len(ENGINES) < 2, reason="optimum-onnx is not installed")
@each_architecture
def test_engines_agree(architecture: str) -> None:
    ids = random_ids(3, 11)
    np.testing.assert_allclose(
        *[predict_with_graph(canonical_graph(architecture, engine), ids) for engine in ENGINES], atol=1e-5
    )
    for provider in (CPU, CUDA):
        graphs = [fused_graph(architecture, provider, engine) for engine in ENGINES]
        assert count_fusions(graphs[0]) == count_fusions(graphs[1])
        np.testing.assert_allclose(*[predict_with_graph(proto, ids) for proto in graphs], atol=1e-5)


@each_engine
def test_tracing_does_not_change_the_model(engine: str) -> None:
    model = make_classifier("bert").train()
    model.config._attn_implementation = "sdpa"
    before, seed = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    torch_export.trace(model, engine=engine)
    assert not any(module.training for module in model.modules())
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(torch.random.get_rng_state(), seed)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@each_engine
def test_fp16_checkpoint_gives_fp32_graph(engine: str) -> None:
    model = make_classifier("bert").half()
    proto = append_sigmoid(torch_export.trace(model, engine=engine))
    assert {tensor.data_type for tensor in proto.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert next(model.parameters()).dtype == torch.float16
    np.testing.assert_allclose(
        predict_with_graph(proto, random_ids(2, 5)), predict_with_pytorch(model.float(), random_ids(2, 5)), atol=1e-5
    )


class Untraceable(BertForSequenceClassification):
    """An architecture that cannot be traced."""

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **kwargs: object) -> object:
        """Raise as a tracer does."""
        raise NotImplementedError("data-dependent control flow")


@each_engine
def test_untraceable_model_error(engine: str) -> None:
    with pytest.raises(ExportError, match=r"cannot trace Untraceable \(bert\): data-dependent .* Try --engine"):
        torch_export.trace(Untraceable(make_classifier("bert").config), engine=engine)


def test_unknown_engine_is_rejected() -> None:
    with pytest.raises(ExportError, match="auto, optimum, torch, not 'dynamo'"):
        torch_export.trace(make_classifier("bert"), engine="dynamo")


@pytest.mark.skipif("optimum" in ENGINES, reason="optimum-onnx is installed")
def test_missing_engine_error_has_install_command() -> None:
    with pytest.raises(ExportError, match="pip install"):
        torch_export.trace(make_classifier("bert"), engine="optimum")


def test_model_with_unsupported_weights_is_rejected() -> None:
    model = make_classifier("bert")
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ExportError, match="does not match its own class BertForSequenceClassification"):
        torch_export.trace(model, engine="torch")
