"""The int8 schemes that are compared: each builds a graph from a fused fp32 graph and some real texts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from manylabel_export.graph.analysis.calibration_stats import CalibrationStats, collect_calibration_stats
from manylabel_export.graph.ir.editor import CONTRIB, GraphEditor, copy_model
from manylabel_export.graph.quantization.activations import ActivationQuantiser, QuantisedActivation, smoothing_divisors
from manylabel_export.graph.quantization.int8 import (
    Int8Quantiser,
    QuantiserChoice,
    choose_row_quantiser,
    quantise_embeddings,
)

ORT_CALIBRATION_TEXTS, ORT_CALIBRATION_LENGTH = 64, 16
"""Texts for ONNX Runtime's calibrators, cut to one length: they keep all activations and need a single shape."""

TokenIds = NDArray[np.int64]


@dataclass
class CalibrationInputs:
    """What a scheme is built from.

    Attributes:
        fused: The fp32 graph, fused for CPU, with token ids as its only input.
        batches: Token ids of validation texts, each `(batch, sequence)`; empty for a random model.
    """

    fused: onnx.ModelProto
    batches: Sequence[TokenIds]
    _stats: dict[str, CalibrationStats] | None = None

    @property
    def stats(self) -> dict[str, CalibrationStats]:
        """Measured once."""
        if self._stats is None:
            self._stats = collect_calibration_stats(self.fused, self.batches)
        return self._stats


@dataclass(frozen=True)
class Scheme:
    """A way to quantise to int8.

    Attributes:
        description: What it does.
        build: Builds the graph.
        optimized: Whether the graph is loaded as it is; the others rely on ONNX Runtime's optimisations.
        one_by_one: Whether texts are scored one by one, because their scores depend on the batch.
    """

    description: str
    build: Callable[[CalibrationInputs], onnx.ModelProto]
    optimized: bool = True
    one_by_one: bool = False


@dataclass(frozen=True)
class Fixed:
    """Static scales: one scale for all rows, one divisor per channel. Values beyond the range of the texts saturate.

    Attributes:
        divisors: Shape `(width,)`.
        scale: The step of one byte, after division by `divisors`.
        zero: The zero point: the byte that stands for 0.0.
    """

    divisors: NDArray[np.float32]
    scale: float
    zero: int

    @classmethod
    def for_texts(cls, stats: CalibrationStats, weights: NDArray[np.float32]) -> Fixed:
        """Fit the range of the statistics.

        Args:
            stats: Statistics of the activation.
            weights: The weights of all linear layers that read it, side by side, `(width, outputs)`.
        """
        divisors = smoothing_divisors(stats, weights)
        low, high = float((stats.low / divisors).min()), float((stats.high / divisors).max())
        scale = max(high - low, 1e-30) / 255
        return cls(divisors, scale, round(-low / scale))

    def quantise(self, editor: GraphEditor, activation: str, width: int) -> QuantisedActivation:
        """Add the nodes that quantise an activation `(..., width)`."""
        factors = editor.add_constant((1 / self.divisors).astype(np.float32), "smoothing")
        scale = editor.add_constant(np.float32(self.scale), "scale")
        zero = editor.add_constant(np.uint8(self.zero), "zero")
        smoothed = editor.add_node("Mul", [activation, factors], "smoothed")
        return QuantisedActivation(editor.add_node("QuantizeLinear", [smoothed, scale, zero], "quantised"), zero, scale)

    def channel_divisors(self, width: int) -> NDArray[np.float32]:
        """Return the divisors of the channels."""
        return self.divisors

    def rounding_variance(self, stats: CalibrationStats) -> float:
        """Return the variance that rounding adds to a quantised channel."""
        return self.scale**2 / 12


def everything_fixed(
    producers: set[str], stats: CalibrationStats | None, weights: NDArray[np.float32]
) -> ActivationQuantiser:
    """Return SmoothQuant's static scales for every activation."""
    assert stats is not None
    return Fixed.for_texts(stats, weights)


def fixed_if_normalised(
    producers: set[str], stats: CalibrationStats | None, weights: NDArray[np.float32]
) -> ActivationQuantiser:
    """Return static scales after a normalisation, row scales elsewhere."""
    normalised = producers == {"LayerNormalization"}
    return (everything_fixed if normalised else without_smoothing)(producers, stats, weights)


def without_smoothing(
    producers: set[str], stats: CalibrationStats | None, weights: NDArray[np.float32]
) -> ActivationQuantiser:
    """Return row scales, without smoothing the channels."""
    return choose_row_quantiser(producers, None, weights)


def _ours(
    inputs: CalibrationInputs,
    *,
    fitted: bool = True,
    table: bool = True,
    choose: QuantiserChoice = choose_row_quantiser,
) -> Any:
    proto = quantise_embeddings(inputs.fused) if table else inputs.fused
    return _folded(Int8Quantiser(proto, inputs.stats if fitted else None, choose).quantise())


def _folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fold fixed scales, and the biases after them, into the MatMuls, which saves two passes over memory."""
    editor = GraphEditor(proto)
    for node in editor.nodes:
        product = editor.producer(node.input[0]) if node.op_type == "Mul" else None
        if product is None or product.op_type != "MatMulIntegerToFloat" or editor.constant(node.input[1]) is None:
            continue
        last, bias = _bias(editor, node)
        inputs = [*product.input[:2], node.input[1], *product.input[3:], *(["", bias] if bias else [])]
        folded = editor.add_node("MatMulIntegerToFloat", inputs, "folded", domain=CONTRIB)
        editor.replace_tensor(last.output[0], folded)
    return editor.finish()


def _bias(editor: GraphEditor, scaled: onnx.NodeProto) -> tuple[onnx.NodeProto, str]:
    """Return the node that adds a bias to the MatMul and the bias; without one, the MatMul's own node and `""`."""
    reader = editor.sole_consumer(scaled.output[0])
    if reader is not None and reader.op_type == "Add":
        for name in reader.input:
            value = editor.constant(name)
            if value is not None and value.ndim == 1:
                return reader, name
    return scaled, ""


def _with_tanh(inputs: CalibrationInputs) -> onnx.ModelProto:
    editor = GraphEditor(_ours(inputs))
    for node in editor.nodes:
        if node.op_type == "Gelu":
            editor.replace_tensor(node.output[0], editor.add_node("FastGelu", list(node.input), "gelu", domain=CONTRIB))
    return editor.finish()


def _with_one_projection(inputs: CalibrationInputs) -> onnx.ModelProto:
    """Compute query, key and value as one MatMul that is split afterwards, where they read the same bytes."""
    editor = GraphEditor(_ours(inputs))
    for node in editor.nodes:
        rescaled = [editor.producer(name) for name in node.input[:3]] if node.op_type == "MultiHeadAttention" else []
        made = [editor.producer(each.input[0]) for each in rescaled if each is not None and each.op_type == "Mul"]
        parts = [part for part in made if part is not None and part.op_type == "MatMulIntegerToFloat"]
        if len(parts) < 3 or len({part.input[0] for part in parts}) > 1 or rescaled[0] is None:
            continue
        joined = list(parts[0].input)
        for place, hint in ((1, "weight_int8"), (3, "weight_scale")):
            values = [np.asarray(editor.constant(part.input[place])) for part in parts]
            joined[place] = editor.add_constant(np.concatenate(values, axis=-1), hint)
        product = editor.add_node("MatMulIntegerToFloat", joined, "product_int8", domain=CONTRIB)
        product = editor.add_node("Mul", [product, rescaled[0].input[1]], "rescaled")
        split = editor.producer(editor.add_node("Split", [product], "query", outputs=3, axis=-1, num_outputs=3))
        assert split is not None
        for index, name in enumerate(split.output):
            editor.set_input(node, index, name)
    return editor.finish()


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
    def __init__(self, batches: Sequence[TokenIds]) -> None:
        self._feeds: Iterator[dict[str, TokenIds]] = iter([{"input_ids": ids} for ids in batches])

    def get_next(self) -> dict[str, TokenIds] | None:
        """Return the next batch."""
        return next(self._feeds, None)


def _static(inputs: CalibrationInputs, method: CalibrationMethod) -> onnx.ModelProto:
    """Apply ONNX Runtime's own static quantisation, as in its documentation."""
    length = min(ORT_CALIBRATION_LENGTH, max(ids.shape[1] for ids in inputs.batches))
    rows = [row[None, :length] for ids in inputs.batches if ids.shape[1] >= length for row in ids]
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(inputs.fused, source)
        quantize_static(
            source,
            result,
            _Reader(rows[:ORT_CALIBRATION_TEXTS]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(result)


def _dynamic(inputs: CalibrationInputs) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(inputs.fused, source)
        quantize_dynamic(
            source,
            result,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        return onnx.load(result)


SCHEMES = {
    "fp32": Scheme("the fused fp32 graph", lambda inputs: copy_model(inputs.fused)),
    "row-wise": Scheme("one scale per row, round to nearest", partial(_ours, fitted=False, table=False)),
    "row-wise-gptq": Scheme("one scale per row, GPTQ", partial(_ours, table=False, choose=without_smoothing)),
    "default": Scheme("one scale per row, channels smoothed after normalisations, GPTQ, int8 embeddings", _ours),
    "default-fp32-embeddings": Scheme("the default with fp32 embeddings", partial(_ours, table=False)),
    "default-tanh": Scheme("the default with GELU by tanh", _with_tanh),
    "default-one-qkv": Scheme("the default with query, key and value as one MatMul", _with_one_projection),
    "mixed": Scheme(
        "fixed scales after normalisations, otherwise the default", partial(_ours, choose=fixed_if_normalised)
    ),
    "smoothquant": Scheme("fixed scales everywhere (SmoothQuant), GPTQ", partial(_ours, choose=everything_fixed)),
    "static-minmax": Scheme(
        "quantize_static, min-max", partial(_static, method=CalibrationMethod.MinMax), optimized=False
    ),
    "static-percentile": Scheme(
        "quantize_static, percentile", partial(_static, method=CalibrationMethod.Percentile), optimized=False
    ),
    "static-entropy": Scheme(
        "quantize_static, entropy, whose defaults give the same ranges as min-max",
        partial(_static, method=CalibrationMethod.Entropy),
        optimized=False,
    ),
    "dynamic": Scheme("quantize_dynamic, one text per call", _dynamic, optimized=False, one_by_one=True),
}
