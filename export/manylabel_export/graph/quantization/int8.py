"""Batch-invariant int8: the linear layers and the word embeddings of a graph, independent of the rest of the batch.

    y = (q - zero) @ w_q * w_s * s  q: a row as uint8 with its scale s and its zero point, see `activations`
                                    w_q: int8 with a scale w_s per column, see `gptq`

Sums of integers are exact in any order. Layers that stay in fp32 (the classifier, with one row per text) are written so
that a row is summed in the same order in any batch. Weights are signed and activations unsigned: the only pair for
which ONNX Runtime uses the processor's int8 dot product (VNNI).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from manylabel_export.graph.analysis.calibration_stats import CalibrationStats
from manylabel_export.graph.analysis.linear_layers import (
    layer_name,
    layer_weight,
    linear_layers,
    make_batch_invariant,
    quantisable_layers,
    split_gemms,
)
from manylabel_export.graph.ir.editor import CONTRIB, INPUT_IDS, GraphEditor, copy_model
from manylabel_export.graph.quantization.activations import (
    AFTER_GELU,
    GELUS,
    SYMMETRIC,
    ActivationQuantiser,
    QuantisedActivation,
)
from manylabel_export.graph.quantization.gptq import QuantisedWeight, round_to_nearest, round_with_gptq

PICKERS = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Identity")

QuantiserChoice = Callable[[set[str], CalibrationStats | None, NDArray[np.float32]], ActivationQuantiser]
"""Chooses a quantiser by the operators that computed an activation, its statistics, and the weights that read it."""


def choose_row_quantiser(
    producers: set[str], stats: CalibrationStats | None, weights: NDArray[np.float32]
) -> ActivationQuantiser:
    """Return a quantiser with one scale per row, and smoothed channels after a normalisation.

    Args:
        producers: The operators that computed the activation.
        stats: Its calibration statistics, if there are any.
        weights: The weights of all layers that read it, side by side, `(width, outputs)`.
    """
    if producers <= set(GELUS):
        return AFTER_GELU
    if stats is not None and producers == {"LayerNormalization"}:
        return SYMMETRIC.smoothed(stats, weights)
    return SYMMETRIC


class Int8Quantiser:
    """Convert a fused graph to int8, with any choice of layers in fp32; weights are rounded once.

    Args:
        proto: A graph fused for CPU, without a mask, of opset `INT8_OPSET`.
        stats: Calibration statistics of its activations, see `collect_calibration_stats`. Without them channels are
            not smoothed and weights are rounded to the nearest value.
        choose: Chooses how an activation is quantised.

    Example:
        >>> header = '<ir_version: 10, opset_import: ["": 21]>'
        >>> body = "dense (float[n,2] x) => (float[n,1] y) <float[2,1] w = {0.5, -1.0}> {y = MatMul(x, w)}"
        >>> int8 = Int8Quantiser(onnx.parser.parse_model(header + body)).quantise()
        >>> "MatMulIntegerToFloat" in {node.op_type for node in int8.graph.node}
        True
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        stats: Mapping[str, CalibrationStats] | None = None,
        choose: QuantiserChoice = choose_row_quantiser,
    ) -> None:
        editor = GraphEditor(copy_model(proto))
        split_gemms(editor)
        self._proto = editor.finish()
        self._weights: dict[str, tuple[ActivationQuantiser, QuantisedWeight]] = {}
        for group in _group_layers(quantisable_layers(editor)):
            self._weights |= _quantise_group(editor, group, stats or {}, choose)

    def quantise(self, fp32_layers: Collection[str] = ()) -> onnx.ModelProto:
        """Return the model with every linear layer but the classifier in int8.

        Args:
            fp32_layers: Names of layers that stay in fp32, see `linear_layer_sizes`.

        Returns:
            A new model with the same inputs and outputs. It is batch-invariant: a text's scores are the same bits
            in any batch of texts with the same number of tokens.
        """
        editor = GraphEditor(copy_model(self._proto))
        int8_outputs = {node.output[0] for node in quantisable_layers(editor) if layer_name(node) not in fp32_layers}
        activations: dict[str, QuantisedActivation] = {}
        for node in linear_layers(editor):
            if node.output[0] not in int8_outputs:
                make_batch_invariant(editor, node)
                continue
            quantiser, weight = self._weights[node.input[1]]
            if node.input[0] not in activations:  # query, key and value share theirs
                width = len(layer_weight(editor, node))
                activations[node.input[0]] = quantiser.quantise(editor, node.input[0], width)
            _quantise_layer(editor, node, activations[node.input[0]], weight)
        return editor.finish()


def quantise_embeddings(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the fp32 table of word embeddings by int8 rows with one scale each.

    In most models this table is the largest part besides the linear layers. The graph uses standard operators: `Cast`
    and `Mul` take 20 us longer than fp32 for 512 tokens of 384, `DequantizeLinear` with one block per row 176 us (one
    core of Zen 5, ONNX Runtime 1.32).

    Args:
        proto: A graph fused for CPU.

    Returns:
        A new model with the same inputs and outputs.
    """
    editor = GraphEditor(copy_model(proto))
    for node in editor.nodes:
        table = editor.constant(node.input[0]) if node.op_type == "Gather" and node.input[1] == INPUT_IDS else None
        if table is None or table.ndim != 2 or table.dtype != np.float32:
            continue
        values, scales = round_to_nearest(table.T)
        rows = editor.add_node("Gather", [editor.add_constant(values.T, "embeddings_int8"), INPUT_IDS], "row_int8")
        scale_table = editor.add_constant(scales[:, None], "embedding_scale")
        scale = editor.add_node("Gather", [scale_table, INPUT_IDS], "row_scale")
        row = editor.add_node("Cast", [rows], "row_float", to=TensorProto.FLOAT)
        editor.replace_tensor(node.output[0], editor.add_node("Mul", [row, scale], "embedded"))
    return editor.finish()


@dataclass
class LayerGroup:
    """Layers that are quantised together: query, key and value read one activation, ALBERT's layers share weights.

    Attributes:
        nodes: The MatMuls.
        activations: The names of the activations that they read.
        weights: The names of their weights.
    """

    nodes: list[onnx.NodeProto]
    activations: list[str]
    weights: list[str]


def _group_layers(nodes: list[onnx.NodeProto]) -> list[LayerGroup]:
    """Group layers that share an activation or a weight."""
    groups: list[LayerGroup] = []
    for node in nodes:
        activation, weight = node.input[:2]
        related = [each for each in groups if activation in each.activations or weight in each.weights]
        groups = [each for each in groups if each not in related]
        joined = LayerGroup([node], [activation], [weight])
        for each in related:
            joined.nodes = each.nodes + joined.nodes
            joined.activations += [name for name in each.activations if name not in joined.activations]
            joined.weights += [name for name in each.weights if name not in joined.weights]
        groups.append(joined)
    return groups


def _quantise_group(
    editor: GraphEditor, group: LayerGroup, stats: Mapping[str, CalibrationStats], choose: QuantiserChoice
) -> dict[str, tuple[ActivationQuantiser, QuantisedWeight]]:
    """Return the quantiser of a group's activations and its quantised weights, by the names of the weights."""
    measured = [stats[name] for name in group.activations if name in stats]
    group_stats = reduce(add, measured) if measured else None
    weights = {node.input[1]: layer_weight(editor, node) for node in group.nodes}
    side_by_side = np.concatenate(list(weights.values()), axis=1)
    quantiser = choose({_producing_operator(editor, name) for name in group.activations}, group_stats, side_by_side)
    values, scales = _round_weights(side_by_side, quantiser, group_stats)
    ends = np.cumsum([weight.shape[1] for weight in weights.values()])[:-1]
    parts = zip(np.split(values, ends, axis=1), np.split(scales, ends), strict=True)
    return {name: (quantiser, part) for name, part in zip(weights, parts, strict=True)}


def _producing_operator(editor: GraphEditor, name: str) -> str:
    """Return the operator that computed a tensor's values, before some of them were selected."""
    producer = editor.producer(name)
    while producer is not None and producer.op_type in PICKERS:
        producer = editor.producer(producer.input[0])
    return "" if producer is None else producer.op_type


def _round_weights(
    weights: NDArray[np.float32], quantiser: ActivationQuantiser, stats: CalibrationStats | None
) -> QuantisedWeight:
    """Round the weights that read one activation, side by side."""
    divisors = quantiser.channel_divisors(len(weights))
    if stats is None:
        return round_to_nearest(weights * divisors[:, None])
    gram = stats.gram / stats.rows / np.outer(divisors, divisors)
    noise = np.eye(len(weights), dtype=np.float32) * quantiser.rounding_variance(stats)
    return round_with_gptq(weights * divisors[:, None], gram + noise)


def _quantise_layer(
    editor: GraphEditor, node: onnx.NodeProto, activation: QuantisedActivation, weight: QuantisedWeight
) -> None:
    values, scale = weight
    inputs = [activation.values, editor.add_constant(values, "weight_int8"), editor.add_constant(np.float32(1), "one")]
    inputs += [editor.add_constant(scale, "weight_scale"), activation.zero]
    product = editor.add_node("MatMulIntegerToFloat", inputs, "product_int8", domain=CONTRIB)
    editor.replace_tensor(node.output[0], editor.add_node("Mul", [product, activation.scale], "rescaled"))
