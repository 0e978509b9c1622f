"""int8 whose answer for a text does not depend on its neighbours.

    y = (q - zero) @ w_q * w_s * s  q: a row as bytes, with its scale s and its zero, see `activations`
                                    w_q: int8 with a scale w_s for every column, see `weights`

Sums of integers are exact in any order. What stays in fp32 (the classifier, with one row a text) is written so
that a row is summed alike alone and in company. Weights are signed and activations unsigned: the only pair
for which ONNX Runtime uses the processor's dot products of bytes (VNNI).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter

from manylabel_export.graph.analysis.linear_layers import (
    linear_layers,
    product_name,
    products,
    split_gemms,
    sum_in_fixed_order,
    weight_of,
)
from manylabel_export.graph.ir.editor import CONTRIB, Editor, clone
from manylabel_export.graph.ir.serialization import lifted, put_back
from manylabel_export.graph.quantization.activations import AFTER_GELU, GELUS, SYMMETRIC, Bytes, Quantiser
from manylabel_export.graph.quantization.calibration_stats import Moments
from manylabel_export.graph.quantization.gptq import Rounded, round_for, round_weight

OPSET = 21  # the first with a scale for every block in QuantizeLinear
PICKERS = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Identity")


def raise_opset(proto: onnx.ModelProto, opset: int = OPSET) -> onnx.ModelProto:
    """The same graph in an opset, usually what `quantise` needs; for a graph that is still of standard operators."""
    with lifted(proto) as tensors:
        raised = version_converter.convert_version(proto, opset)
    put_back(raised, tensors)
    return raised


# The operators that made an activation, what is known of it, and the weights that read it `(width, outputs)`.
Choice = Callable[[set[str], Moments | None, NDArray[np.float32]], Quantiser]


def row_wise(made_by: set[str], moments: Moments | None, weights: NDArray[np.float32]) -> Quantiser:
    """A scale for every row, with channels made alike after a normalisation."""
    if made_by <= set(GELUS):
        return AFTER_GELU
    if moments is not None and made_by == {"LayerNormalization"}:
        return SYMMETRIC.evened(moments, weights)
    return SYMMETRIC


class Quantisation:
    """How a graph becomes int8: found once, for any choice of products that stay in fp32.

    Args:
        proto: A fused graph for CPU, without a mask, of opset `OPSET`.
        moments: What real texts do to its activations, see `measure`. Without them channels are left as wide as they
            are, and weights are rounded to the nearest byte.
        choose: How an activation becomes bytes.
    """

    def __init__(
        self, proto: onnx.ModelProto, moments: Mapping[str, Moments] | None = None, choose: Choice = row_wise
    ) -> None:
        editor = Editor(clone(proto))
        split_gemms(editor)
        self._proto = editor.finish()
        self._weights: dict[str, tuple[Quantiser, Rounded]] = {}
        for family in _families(products(editor)):
            self._weights |= _quantised(editor, family, moments or {}, choose)

    def graph(self, keep: Collection[str] = ()) -> onnx.ModelProto:
        """A model that has every product with a constant matrix in its int8 form; the classifier stays in fp32.

        Args:
            keep: Names of products that stay in fp32, see `products_of`.

        Returns:
            A new model with the same inputs and outputs. For equal inputs its outputs are the same bits whatever
            else is in the batch, as long as texts have the same number of tokens.
        """
        editor = Editor(clone(self._proto))
        quantised = {node.output[0] for node in products(editor) if product_name(node) not in keep}
        rows: dict[str, Bytes] = {}
        for node in linear_layers(editor):
            if node.output[0] not in quantised:
                sum_in_fixed_order(editor, node)
                continue
            form, rounded = self._weights[node.input[1]]
            if node.input[0] not in rows:  # query, key and value share theirs
                rows[node.input[0]] = form.quantise(editor, node.input[0], len(weight_of(editor, node)))
            _quantise_product(editor, node, rows[node.input[0]], rounded)
        return editor.finish()


def quantise(
    proto: onnx.ModelProto, *, keep: Collection[str] = (), moments: Mapping[str, Moments] | None = None
) -> onnx.ModelProto:
    """One `Quantisation`, used once."""
    return Quantisation(proto, moments).graph(keep)


@dataclass
class Family:
    """Products that are quantised together: query, key and value read one activation, ALBERT's layers share weights.

    Attributes:
        nodes: The products.
        activations, weights: The names of what they read.
    """

    nodes: list[onnx.NodeProto]
    activations: list[str]
    weights: list[str]


def _families(nodes: list[onnx.NodeProto]) -> list[Family]:
    """Joins products that share an activation or a weight."""
    families: list[Family] = []
    for node in nodes:
        activation, weight = node.input[:2]
        related = [each for each in families if activation in each.activations or weight in each.weights]
        families = [each for each in families if each not in related]
        joined = Family([node], [activation], [weight])
        for each in related:
            joined.nodes = each.nodes + joined.nodes
            joined.activations += [name for name in each.activations if name not in joined.activations]
            joined.weights += [name for name in each.weights if name not in joined.weights]
        families.append(joined)
    return families


def _quantised(
    editor: Editor, family: Family, known: Mapping[str, Moments], choose: Choice
) -> dict[str, tuple[Quantiser, Rounded]]:
    """How the activations of a family become bytes, and its weights, by the names of the weights."""
    found = [known[name] for name in family.activations if name in known]
    moments = reduce(add, found) if found else None
    weights = {node.input[1]: weight_of(editor, node) for node in family.nodes}
    beside = np.concatenate(list(weights.values()), axis=1)
    form = choose({_maker(editor, name) for name in family.activations}, moments, beside)
    values, scales = _round(beside, form, moments)
    ends = np.cumsum([weight.shape[1] for weight in weights.values()])[:-1]
    parts = zip(np.split(values, ends, axis=1), np.split(scales, ends), strict=True)
    return {name: (form, part) for name, part in zip(weights, parts, strict=True)}


def _maker(editor: Editor, name: str) -> str:
    """The operator that computed the values of a tensor, before some of them were picked."""
    producer = editor.producer(name)
    while producer is not None and producer.op_type in PICKERS:
        producer = editor.producer(producer.input[0])
    return "" if producer is None else producer.op_type


def _round(weights: NDArray[np.float32], form: Quantiser, moments: Moments | None) -> Rounded:
    """The weights that read one activation, side by side."""
    widths = form.widths(len(weights))
    if moments is None:
        return round_weight(weights * widths[:, None])
    second = moments.second / moments.rows / np.outer(widths, widths)
    noise = np.eye(len(weights), dtype=np.float32) * form.noise(moments)
    return round_for(weights * widths[:, None], second + noise)


def _quantise_product(editor: Editor, node: onnx.NodeProto, row: Bytes, weight: Rounded) -> None:
    values, scale = weight
    inputs = [row.values, editor.add_constant(values, "weight_int8"), editor.add_constant(np.float32(1), "one")]
    inputs += [editor.add_constant(scale, "weight_scale"), row.zero]
    product = editor.add("MatMulIntegerToFloat", inputs, "product_int8", domain=CONTRIB)
    editor.supersede(node.output[0], editor.add("Mul", [product, row.scale], "rescaled"))
