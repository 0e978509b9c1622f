"""The mean over a text's tokens as one operator, where all texts of a batch are equally long."""

from __future__ import annotations

import numpy as np
import onnx

from manylabel_export.graph.ir.editor import Editor, attribute

PASSED = ("Cast", "Unsqueeze", "Identity", "Clip")  # what a count of tokens may go through unchanged; it is 1 or more


def plain_means(editor: Editor) -> None:
    """Replaces sums over all tokens, divided by a count of the mask, by `ReduceMean`.

    In fp16 the sum of 512 tokens may leave the range of numbers where their mean does not.

    Args:
        editor: A graph in which multiplying by the mask was removed, and the mask is an input still.
    """
    for node in editor.nodes:
        if node.op_type == "Div":
            total = editor.producer(node.input[0])
            if total is None or attribute(total, "keepdims", 1) == 1:
                continue
            if _sums_tokens(editor, total) and _counts_tokens(editor, node.input[1]):
                editor.redirect(node.output[0], _mean(editor, total))


def _sums_tokens(editor: Editor, node: onnx.NodeProto) -> bool:
    axes = editor.constant(node.input[1]) if node.op_type == "ReduceSum" and len(node.input) > 1 else None
    return axes is not None and axes.reshape(-1).tolist() == [1]


def _counts_tokens(editor: Editor, name: str) -> bool:
    """Whether a tensor is the sum of the mask over tokens."""
    node = editor.producer(_unwrapped(editor, name))
    return node is not None and _sums_tokens(editor, node) and _unwrapped(editor, node.input[0]) == "attention_mask"


def _unwrapped(editor: Editor, name: str) -> str:
    while (node := editor.producer(name)) is not None and node.op_type in PASSED:
        name = node.input[0]
    return name


def _mean(editor: Editor, total: onnx.NodeProto) -> str:
    """Over the last axis: over one in the middle ONNX Runtime 1.32 adds in another order for one text than for two."""
    tokens_last = editor.add("Transpose", [total.input[0]], "tokens_last", perm=[0, 2, 1])
    (opset,) = (entry.version for entry in editor.proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < 18:  # where the axes became an input
        return editor.add("ReduceMean", [tokens_last], "mean_of_tokens", axes=[2], keepdims=0)
    axes = editor.add_constant(np.array([2], np.int64), "tokens_axis")
    return editor.add("ReduceMean", [tokens_last, axes], "mean_of_tokens", keepdims=0)
