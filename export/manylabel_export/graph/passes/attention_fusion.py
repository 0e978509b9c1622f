"""Attention fusion: replace eager self-attention by one of ONNX Runtime's contrib operators.

ONNX Runtime's own attention fusion recognises, without a mask, only one form (a `Div` after the scores, no relative
positions), while transformers 4 and 5 trace DistilBERT, RoBERTa and MPNet differently. This pass matches the
arithmetic itself: the softmax of scaled query-key products, times the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from manylabel_export.graph.ir.editor import CONTRIB, GraphEditor, get_attribute

HEADS_FIRST = [0, 2, 1, 3]  # (batch, sequence, heads, size) <-> (batch, heads, sequence, size)
KEYS_LAST = [0, 2, 3, 1]  # (batch, sequence, heads, size) -> (batch, heads, size, sequence)


@dataclass(frozen=True)
class Projection:
    """A tensor `(batch, sequence, heads * size)` that is split into heads, before its bias, and the bias if any."""

    name: str
    bias: str | None


@dataclass(frozen=True)
class SelfAttention:
    """The parts of a matched attention.

    Attributes:
        query: The query projection.
        key: The key projection.
        value: The value projection.
        score_bias: A tensor added to the scaled scores, such as MPNet's relative positions, or "".
        output: The context `(batch, sequence, heads * size)`, which the fused operator replaces.
    """

    query: Projection
    key: Projection
    value: Projection
    score_bias: str
    output: str


def fuse_attention(editor: GraphEditor, heads: int, head_size: int, *, packed: bool) -> int:
    """Replace every self-attention that is recognised.

    Args:
        editor: A graph without a mask.
        heads: The number of attention heads.
        head_size: The size of a head.
        packed: Whether to use `Attention`, with one projection for query, key and value (CUDA), where
            possible; otherwise `MultiHeadAttention` with three projections, which int8 can quantise.

    Returns:
        The number of replaced attentions.
    """
    count = 0
    for node in editor.nodes:
        if node.op_type == "Softmax":
            attention = match_attention(editor, node, heads, head_size)
            if attention is not None:
                fused = _add_packed_attention(editor, attention, heads) if packed else None
                fused = fused or _add_multi_head_attention(editor, attention, heads)
                editor.redirect_consumers(attention.output, fused)
                count += 1
    return count


def match_attention(editor: GraphEditor, softmax: onnx.NodeProto, heads: int, head_size: int) -> SelfAttention | None:
    """Match the attention around a softmax, wherever its scale and its transposes are applied."""
    scores, scale, score_bias = _skip_scale(editor, softmax.input[0], allow_bias=True)
    product = editor.producer(scores)
    mixture = editor.sole_consumer(softmax.output[0])
    if product is None or product.op_type != "MatMul" or mixture is None or mixture.op_type != "MatMul":
        return None
    query, query_scale, _ = _skip_scale(editor, product.input[0])
    key, key_scale, _ = _skip_scale(editor, product.input[1])
    if not math.isclose(scale * query_scale * key_scale, head_size**-0.5, rel_tol=1e-5):
        return None  # the fused operators accept another scale, but no known architecture has one
    parts = [
        _projection(editor, query, HEADS_FIRST, heads, head_size),
        _projection(editor, key, KEYS_LAST, heads, head_size),
        _projection(editor, mixture.input[1], HEADS_FIRST, heads, head_size),
    ]
    output = _merged_heads(editor, mixture.output[0])
    if output is None or parts[0] is None or parts[1] is None or parts[2] is None:
        return None
    return SelfAttention(parts[0], parts[1], parts[2], score_bias, output)


def _skip_scale(editor: GraphEditor, name: str, *, allow_bias: bool = False) -> tuple[str, float, str]:
    """Follow a tensor back through multiplications by scalars.

    Returns:
        Where they start from, the product of the scalars, and a tensor that was added on the way, or "".
    """
    scale, bias = 1.0, ""
    while (node := editor.producer(name)) is not None:
        factor = editor.scalar(node.input[1]) if node.op_type in ("Mul", "Div") else None
        if factor is not None:
            scale *= factor if node.op_type == "Mul" else 1 / factor
            name = node.input[0]
        elif allow_bias and node.op_type == "Add" and bias == "" and scale == 1.0:  # the bias itself is not scaled
            product_index = 0 if _leads_to_product(editor, node.input[0]) else 1
            name, bias = node.input[product_index], node.input[1 - product_index]
        else:
            break
    return name, scale, bias


def _leads_to_product(editor: GraphEditor, name: str) -> bool:
    node = editor.producer(_skip_scale(editor, name)[0])
    return node is not None and node.op_type == "MatMul"


def _projection(editor: GraphEditor, name: str, order: list[int], heads: int, head_size: int) -> Projection | None:
    """Follow a tensor of heads back to the projection that is split."""
    composed = [0, 1, 2, 3]
    node = editor.producer(name)
    while node is not None and node.op_type == "Transpose":
        step = list(get_attribute(node, "perm"))
        composed = [step[axis] for axis in composed]
        node = editor.producer(node.input[0])
    if node is None or node.op_type != "Reshape" or composed != order:
        return None
    if not _splits_into(editor, node.input[1], heads, head_size):
        return None
    return _split_bias(editor, node.input[0], heads * head_size)


def _splits_into(editor: GraphEditor, shape: str, heads: int, head_size: int) -> bool:
    """Return whether a shape ends in `(heads, head_size)`, of which one may be -1 (inferred)."""
    value = editor.constant(shape)
    if value is not None:
        last = [int(size) for size in value[-2:]] if value.size == 4 else []
    else:
        node = editor.producer(shape)
        parts = [editor.scalar(name) for name in node.input] if node is not None and node.op_type == "Concat" else []
        last = [int(size) for size in parts[-2:] if size is not None] if len(parts) == 4 else []
    return last in ([heads, head_size], [-1, head_size], [heads, -1])


def _split_bias(editor: GraphEditor, name: str, width: int) -> Projection:
    """Separate a projection from the bias that is added to it."""
    node = editor.producer(name)
    if node is not None and node.op_type == "Add":
        for index in (0, 1):
            bias = editor.constant(node.input[index])
            if bias is not None and bias.shape == (width,):
                return Projection(node.input[1 - index], node.input[index])
    return Projection(name, None)


def _merged_heads(editor: GraphEditor, name: str) -> str | None:
    """Return the context with its heads side by side again: transposed, then reshaped to three dimensions."""
    transpose = editor.sole_consumer(name)
    if transpose is None or transpose.op_type != "Transpose" or list(get_attribute(transpose, "perm")) != HEADS_FIRST:
        return None
    reshape = editor.sole_consumer(transpose.output[0])
    return reshape.output[0] if reshape is not None and reshape.op_type == "Reshape" else None


def _add_joint_bias(editor: GraphEditor, attention: SelfAttention, width: int) -> str:
    """Add the biases of query, key and value as one constant; return "" if there are none."""
    names = [part.bias for part in (attention.query, attention.key, attention.value)]
    if not any(names):
        return ""
    values = [np.zeros(width, np.float32) if name is None else editor.constant(name) for name in names]
    return editor.add_constant(np.concatenate([value for value in values if value is not None]), "qkv_bias")


def _add_multi_head_attention(editor: GraphEditor, attention: SelfAttention, heads: int) -> str:
    """Add a `MultiHeadAttention`, which keeps the three projections as MatMuls of their own."""
    projections = (attention.query, attention.key, attention.value)
    inputs = [projection.name for projection in projections]
    biases = [projection.bias for projection in projections if projection.bias is not None]
    if biases:
        value = editor.constant(biases[0])
        inputs.append(_add_joint_bias(editor, attention, 0 if value is None else value.size))
    if attention.score_bias:
        inputs += [""] * (4 - len(inputs)) + ["", attention.score_bias]
    return editor.add_node("MultiHeadAttention", inputs, "attention", domain=CONTRIB, num_heads=heads)


def _add_packed_attention(editor: GraphEditor, attention: SelfAttention, heads: int) -> str | None:
    """Add an `Attention` with one joint projection; None if the three do not read one tensor through weights."""
    nodes = [editor.producer(part.name) for part in (attention.query, attention.key, attention.value)]
    weights = [editor.constant(node.input[1]) for node in nodes if node is not None and node.op_type == "MatMul"]
    kernels = [weight for weight in weights if weight is not None and weight.ndim == 2]
    sources = {node.input[0] for node in nodes if node is not None}
    if len(kernels) < 3 or len(sources) > 1 or len({kernel.shape for kernel in kernels}) > 1:
        return None
    weight = editor.add_constant(np.concatenate(kernels, axis=1), "qkv_weight")
    width = kernels[0].shape[1]
    bias = _add_joint_bias(editor, attention, width)
    bias = bias or editor.add_constant(np.zeros(3 * width, np.float32), "qkv_bias")
    inputs = [sources.pop(), weight, bias]
    if attention.score_bias:
        inputs += ["", "", attention.score_bias]
    return editor.add_node("Attention", inputs, "attention", domain=CONTRIB, num_heads=heads)
