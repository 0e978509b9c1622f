"""Self-attention, recognised in eager form and replaced by one of ONNX Runtime's operators.

Why not the optimizer's own attention fusion: without a mask it knows a single spelling (one `Div` after the
scores, no relative positions), and transformers 4 and 5 spell DistilBERT, RoBERTa and MPNet otherwise.
What is matched here is what the arithmetic needs: softmax of scaled query-key products, times the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from manylabel_export.graph.ir.editor import CONTRIB, Editor, attribute

HEADS_FIRST = [0, 2, 1, 3]  # (batch, sequence, heads, size) <-> (batch, heads, sequence, size)
KEYS_LAST = [0, 2, 3, 1]  # (batch, sequence, heads, size) -> (batch, heads, size, sequence)


@dataclass(frozen=True)
class Projection:
    """A tensor `(batch, sequence, heads * size)` that was split into heads; apart from its bias, if it has one."""

    name: str
    bias: str | None


@dataclass(frozen=True)
class SelfAttention:
    """The parts of one matched attention.

    Attributes:
        query, key, value: What was split into heads, before the bias.
        added: A tensor added to the scaled scores, such as MPNet's relative positions, or "".
        output: The context `(batch, sequence, heads * size)`, to be replaced.
    """

    query: Projection
    key: Projection
    value: Projection
    added: str
    output: str


def fuse_attention(editor: Editor, heads: int, head_size: int, *, packed: bool) -> int:
    """Replaces every self-attention that is recognised.

    Args:
        editor: A graph without mask.
        heads: Number of attention heads.
        head_size: Size of each.
        packed: Whether to use `Attention`, with one projection for query, key and value (CUDA), where
            possible. Otherwise `MultiHeadAttention` with three, which int8 can quantise.

    Returns:
        How many were replaced.
    """
    count = 0
    for node in editor.nodes:
        if node.op_type == "Softmax":
            found = match(editor, node, heads, head_size)
            if found is not None:
                emit = _packed(editor, found, heads) if packed else None
                editor.redirect(found.output, emit or _multi_head(editor, found, heads))
                count += 1
    return count


def match(editor: Editor, softmax: onnx.NodeProto, heads: int, head_size: int) -> SelfAttention | None:
    """Recognises the attention around a softmax, whichever way its scale and transposes are spelled."""
    scores, scale, added = _unscale(editor, softmax.input[0], allow_added=True)
    product = editor.producer(scores)
    mixture = editor.sole_consumer(softmax.output[0])
    if product is None or product.op_type != "MatMul" or mixture is None or mixture.op_type != "MatMul":
        return None
    query, query_scale, _ = _unscale(editor, product.input[0])
    key, key_scale, _ = _unscale(editor, product.input[1])
    if not math.isclose(scale * query_scale * key_scale, head_size**-0.5, rel_tol=1e-5):
        return None  # the operators could be told another scale, but no known architecture has one
    parts = [
        _projection(editor, query, HEADS_FIRST, heads, head_size),
        _projection(editor, key, KEYS_LAST, heads, head_size),
        _projection(editor, mixture.input[1], HEADS_FIRST, heads, head_size),
    ]
    output = _merged_heads(editor, mixture.output[0])
    if output is None or parts[0] is None or parts[1] is None or parts[2] is None:
        return None
    return SelfAttention(parts[0], parts[1], parts[2], added, output)


def _unscale(editor: Editor, name: str, *, allow_added: bool = False) -> tuple[str, float, str]:
    """Walks up through multiplications by scalars; returns where it ends, their product, and what was added."""
    scale, added = 1.0, ""
    while (node := editor.producer(name)) is not None:
        factor = editor.scalar(node.input[1]) if node.op_type in ("Mul", "Div") else None
        if factor is not None:
            scale *= factor if node.op_type == "Mul" else 1 / factor
            name = node.input[0]
        elif allow_added and node.op_type == "Add" and added == "" and scale == 1.0:  # not scaled itself
            product_index = 0 if _leads_to_product(editor, node.input[0]) else 1
            name, added = node.input[product_index], node.input[1 - product_index]
        else:
            break
    return name, scale, added


def _leads_to_product(editor: Editor, name: str) -> bool:
    node = editor.producer(_unscale(editor, name)[0])
    return node is not None and node.op_type == "MatMul"


def _projection(editor: Editor, name: str, order: list[int], heads: int, head_size: int) -> Projection | None:
    """Follows a tensor of heads back to the projection that was split."""
    composed = [0, 1, 2, 3]
    node = editor.producer(name)
    while node is not None and node.op_type == "Transpose":
        step = list(attribute(node, "perm"))
        composed = [step[axis] for axis in composed]
        node = editor.producer(node.input[0])
    if node is None or node.op_type != "Reshape" or composed != order:
        return None
    if not _splits_into(editor, node.input[1], heads, head_size):
        return None
    return _apart_from_bias(editor, node.input[0], heads * head_size)


def _splits_into(editor: Editor, shape: str, heads: int, head_size: int) -> bool:
    """Whether a shape ends in `(heads, head_size)`; one of the two may be left to be inferred."""
    value = editor.constant(shape)
    if value is not None:
        last = [int(size) for size in value[-2:]] if value.size == 4 else []
    else:
        node = editor.producer(shape)
        parts = [editor.scalar(name) for name in node.input] if node is not None and node.op_type == "Concat" else []
        last = [int(size) for size in parts[-2:] if size is not None] if len(parts) == 4 else []
    return last in ([heads, head_size], [-1, head_size], [heads, -1])


def _apart_from_bias(editor: Editor, name: str, width: int) -> Projection:
    node = editor.producer(name)
    if node is not None and node.op_type == "Add":
        for index in (0, 1):
            bias = editor.constant(node.input[index])
            if bias is not None and bias.shape == (width,):
                return Projection(node.input[1 - index], node.input[index])
    return Projection(name, None)


def _merged_heads(editor: Editor, name: str) -> str | None:
    """The context with its heads side by side again: transposed, then reshaped to three dimensions."""
    transpose = editor.sole_consumer(name)
    if transpose is None or transpose.op_type != "Transpose" or list(attribute(transpose, "perm")) != HEADS_FIRST:
        return None
    reshape = editor.sole_consumer(transpose.output[0])
    return reshape.output[0] if reshape is not None and reshape.op_type == "Reshape" else None


def _joined_bias(editor: Editor, found: SelfAttention, width: int) -> str:
    """The biases of query, key and value in one tensor, or "" where there are none."""
    names = [part.bias for part in (found.query, found.key, found.value)]
    if not any(names):
        return ""
    values = [np.zeros(width, np.float32) if name is None else editor.constant(name) for name in names]
    return editor.add_constant(np.concatenate([value for value in values if value is not None]), "qkv_bias")


def _multi_head(editor: Editor, found: SelfAttention, heads: int) -> str:
    inputs = [found.query.name, found.key.name, found.value.name]
    biases = [part.bias for part in (found.query, found.key, found.value) if part.bias is not None]
    if biases:
        value = editor.constant(biases[0])
        inputs.append(_joined_bias(editor, found, 0 if value is None else value.size))
    if found.added:
        inputs += [""] * (4 - len(inputs)) + ["", found.added]
    return editor.add("MultiHeadAttention", inputs, "attention", domain=CONTRIB, num_heads=heads)


def _packed(editor: Editor, found: SelfAttention, heads: int) -> str | None:
    """`Attention` with its three projections as one; None where they do not read one tensor through weights."""
    nodes = [editor.producer(part.name) for part in (found.query, found.key, found.value)]
    weights = [editor.constant(node.input[1]) for node in nodes if node is not None and node.op_type == "MatMul"]
    kernels = [weight for weight in weights if weight is not None and weight.ndim == 2]
    sources = {node.input[0] for node in nodes if node is not None}
    if len(kernels) < 3 or len(sources) > 1 or len({kernel.shape for kernel in kernels}) > 1:
        return None
    weight = editor.add_constant(np.concatenate(kernels, axis=1), "qkv_weight")
    width = kernels[0].shape[1]
    bias = _joined_bias(editor, found, width) or editor.add_constant(np.zeros(3 * width, np.float32), "qkv_bias")
    inputs = [sources.pop(), weight, bias]
    if found.added:
        inputs += ["", "", found.added]
    return editor.add("Attention", inputs, "attention", domain=CONTRIB, num_heads=heads)
