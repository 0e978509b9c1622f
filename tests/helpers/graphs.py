"""Graphs of the tiny classifiers, traced and fused once, and their probabilities."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from tests.helpers.architectures import CONFIGURATIONS, LONGEST, VOCABULARY, WINDOW, make_classifier
from transformers import (
    PreTrainedModel,
)

from manylabel_export.graph import torch_export
from manylabel_export.graph.passes.canonicalize import append_sigmoid, canonicalize
from manylabel_export.graph.passes.fusion import fuse_operators
from manylabel_export.graph.passes.mask_elimination import eliminate_mask

ENGINES = ("optimum", "torch") if torch_export.resolve_engine("auto") == "optimum" else ("torch",)
ARCHITECTURES = tuple(CONFIGURATIONS)
# None of these is the traced shape, (2, 7); the longest is longer than ModernBERT's window and than what was traced.
SHAPES = ((1, 3), (1, 1), (5, 7), (3, LONGEST), (2, WINDOW + 1))
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
each_engine = pytest.mark.parametrize("engine", ENGINES)


@cache
def canonical_graph(architecture: str, engine: str = "auto", **changes: int) -> onnx.ModelProto:
    """Return the canonical fp32 graph, traced once."""
    return canonicalize(append_sigmoid(torch_export.trace(make_classifier(architecture, **changes), engine=engine)))


@cache
def fused_graph(architecture: str, provider: str, engine: str = "auto") -> onnx.ModelProto:
    """Return the fused fp32 graph before the last layer is pruned."""
    return fuse_operators(
        eliminate_mask(canonical_graph(architecture, engine)), make_classifier(architecture).config, provider=provider
    )


def random_ids(batch: int, length: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (batch, length))


def open_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])


def predict_with_graph(
    runner: onnx.ModelProto | onnxruntime.InferenceSession,
    ids: NDArray[np.int64],
    mask: NDArray[np.int64] | None = None,
    output: str = "probabilities",
) -> NDArray[np.float32]:
    """Run a graph with the inputs that it declares, and return one of its outputs."""
    session = open_session(runner) if isinstance(runner, onnx.ModelProto) else runner
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids) if mask is None else mask}
    feeds["token_type_ids"] = np.zeros_like(ids)
    return session.run([output], {value.name: feeds[value.name] for value in session.get_inputs()})[0]


def predict_with_pytorch(
    model: PreTrainedModel, ids: NDArray[np.int64], mask: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    attention = torch.from_numpy(np.ones_like(ids) if mask is None else mask)
    with torch.no_grad():
        return torch.sigmoid(model(input_ids=torch.from_numpy(ids), attention_mask=attention).logits).numpy()


def padding_mask(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a mask under which every other text is about half as long."""
    mask = np.ones_like(ids)
    mask[1::2, ids.shape[1] // 2 + 1 :] = 0
    return mask
