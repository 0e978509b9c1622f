"""The last layer for the first token only, where the head reads nothing else.

Attention needs the keys and values of all tokens but the query of each token only for that token's own
row; everything after it works token by token. So when the head gathers token 0, the last layer's query,
output projection, feed-forward part and normalisations need one row a text. Exact but for the rounding of a
product of other dimensions, and about 12 % of the work of six layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from manylabel_export.graph.ir.editor import CONTRIB, Editor, attribute, clone

# Operators whose output for a token depends on their inputs for the same token alone.
ELEMENT_WISE = frozenset({"Add", "Mul", "Div", "Sub", "Erf", "Tanh", "Pow", "Sqrt", "Relu", "Identity"})
TOKEN_WISE = ELEMENT_WISE | {"MatMul", "LayerNormalization", "SkipLayerNormalization", "Gelu", "BiasGelu", "FastGelu"}


def cut_to_first_token(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Computes the last layer for the first token, if the head reads only that.

    Args:
        proto: A fused graph.

    Returns:
        A new model, and whether anything was cut. Left as it is where the structure is not recognised.
    """
    editor = Editor(clone(proto))
    for node in editor.nodes:
        if _takes_first_token(editor, node):
            attention = _last_attention(editor, node.input[0])
            if attention is not None and _Cut(editor, attention).apply(node):
                return editor.finish(), True
    return proto, False


def _takes_first_token(editor: Editor, node: onnx.NodeProto) -> bool:
    """Whether a node picks index 0 of axis 1, as the heads of BERT and its kin do."""
    return node.op_type == "Gather" and attribute(node, "axis", 0) == 1 and editor.scalar(node.input[1]) == 0


def _last_attention(editor: Editor, name: str) -> onnx.NodeProto | None:
    """The last attention above a hidden state, reached through token-wise operators only."""
    waiting, seen = [name], {name}
    while waiting:
        node = editor.producer(waiting.pop())
        if node is not None and node.op_type in TOKEN_WISE:
            waiting.extend(set(node.input) - seen)
            seen.update(node.input)
    for node in reversed(editor.nodes):  # in topological order
        if node.op_type in ("MultiHeadAttention", "Attention") and node.output[0] in seen:
            return node
    return None


class _Cut:
    """One cut: every token-wise node between the head and the last attention, rebuilt for one row."""

    def __init__(self, editor: Editor, attention: onnx.NodeProto) -> None:
        self.editor = editor
        self.attention = attention
        keys = attention.input[1:3] if attention.op_type == "MultiHeadAttention" else attention.input[:1]
        self.whole = set(_ancestors(editor, keys))
        self.first: dict[str, str] = {}

    def apply(self, head: onnx.NodeProto) -> bool:
        """Lets the head read `(batch, 1, width)` instead of `(batch, sequence, width)`; False if it cannot."""
        if not self._can(head.input[0], set()):
            return False
        self.editor.set_input(head, 0, self._cut(head.input[0]))
        return True

    def _can(self, name: str, seen: set[str]) -> bool:
        """Whether everything between a tensor and the last attention can be rebuilt."""
        node = self.editor.producer(name)
        if name in seen or name in self.whole or node is None or self.editor.constant(name) is not None:
            return True
        seen.add(name)
        if name != node.output[0]:
            return False
        if node is self.attention:
            return node.op_type == "Attention" or self._can(node.input[0], seen)
        return self._is_token_wise(node) and all(self._can(source, seen) for source in node.input)

    def _is_token_wise(self, node: onnx.NodeProto) -> bool:
        """Whether a node can be computed for one token: its constants must have no axis of tokens."""
        constants = [self.editor.constant(name) for name in node.input]
        if node.op_type == "MatMul":
            return constants[0] is None and constants[1] is not None and constants[1].ndim == 2
        flat = all(value is None or value.ndim < 2 or value.shape[-2] == 1 for value in constants)
        return node.op_type in TOKEN_WISE and flat

    def _cut(self, name: str) -> str:
        """The name of a tensor's first token, `(batch, 1, ...)`."""
        node = self.editor.producer(name)
        if node is None or self.editor.constant(name) is not None:
            return name
        if name not in self.first:
            if name in self.whole:
                self.first[name] = self._slice(name)
            elif node is self.attention:
                self.first[name] = self._cut_attention(node)
            else:
                self.first[name] = self._rebuilt(node, [self._cut(source) for source in node.input])
        return self.first[name]

    def _slice(self, name: str, axis: int = 1) -> str:
        start, end, axes = (self.editor.add_constant(np.array([i], np.int64), "cut") for i in (0, 1, axis))
        return self.editor.add("Slice", [name, start, end, axes], "first_token")

    def _rebuilt(self, node: onnx.NodeProto, inputs: list[str]) -> str:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        return self.editor.add(node.op_type, inputs, f"{node.name}/cut", domain=node.domain, **attributes)

    def _cut_attention(self, node: onnx.NodeProto) -> str:
        is_packed = node.op_type == "Attention"
        inputs = self._unpacked(node) if is_packed else [self._cut(node.input[0]), *node.input[1:]]
        if len(inputs) > 5 and inputs[5]:  # added to scores (1 or batch, heads, queries, keys)
            inputs[5] = self._slice(inputs[5], axis=2)
        heads = attribute(node, "num_heads")
        return self.editor.add("MultiHeadAttention", inputs, "cut_attention", domain=CONTRIB, num_heads=heads)

    def _unpacked(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of `MultiHeadAttention` for an `Attention`, which cannot take fewer queries than keys."""
        hidden, weight, bias, *rest = node.input
        value = self.editor.constant(weight)
        assert value is not None
        kernels = [self.editor.add_constant(part, "cut_weight") for part in np.split(value, 3, axis=1)]
        sources = [self._cut(hidden), hidden, hidden]
        projected = [
            self.editor.add("MatMul", [source, kernel], "cut_projection")
            for source, kernel in zip(sources, kernels, strict=True)
        ]
        return [*projected, bias, *(["", rest[2]] if len(rest) > 2 else [])]


def _ancestors(editor: Editor, names: Iterator[str] | list[str]) -> Iterator[str]:
    """Every tensor that the given ones are computed from, themselves included."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        node = editor.producer(name)
        if node is not None:
            waiting.extend(node.input)
