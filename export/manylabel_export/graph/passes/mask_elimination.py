"""Mask elimination: remove the attention mask and the token types, which texts of equal length do not need."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from manylabel_export.graph.analysis.value_ranges import ValueRange, infer_value_ranges
from manylabel_export.graph.ir.editor import (
    ATTENTION_MASK,
    INPUT_IDS,
    TYPE_IDS,
    GraphEditor,
    copy_model,
    get_attribute,
)
from manylabel_export.graph.ir.external_data import WeightStore

UNPADDED_INPUTS = {ATTENTION_MASK: 1, TYPE_IDS: 0}
"""The value of every element of an input, in a batch of single texts without padding."""

COUNT_OPERATORS = ("Cast", "Unsqueeze", "Identity", "Clip")
"""Operators that leave the value of a token count unchanged; it is at least 1."""


def eliminate_mask(proto: onnx.ModelProto, store: WeightStore | None = None) -> onnx.ModelProto:
    """Specialise a graph for texts of equal length, without padding.

    A mask without effect (adding zeros, multiplying by ones, always selecting the same branch) is removed. The row of
    token type 0 is added to the table of word embeddings, which gives the same bits as adding it at run time. What
    still depends on the mask, such as a sliding window, reads ones made from the shape of the ids.

    Args:
        proto: A canonical graph with the inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`.
        store: Where a new table of word embeddings goes; None to keep it in the graph.

    Returns:
        A new model with the single input `input_ids`, int64 `(batch, sequence)`.
    """
    editor = GraphEditor(copy_model(proto), store)
    inputs = {name: ValueRange(value, value) for name, value in UNPADDED_INPUTS.items() if editor.has_input(name)}
    ranges = infer_value_ranges(editor, inputs)
    for node in editor.nodes:
        _fold_token_type(editor, node, ranges)
        _bypass(editor, node, ranges)
    _simplify_mean_pooling(editor)
    for name in inputs:
        _derive_from_ids(editor, name)
    return editor.finish()


def _bypass(editor: GraphEditor, node: onnx.NodeProto, ranges: Mapping[str, ValueRange]) -> None:
    """Bypass a node that returns one of its operands, an activation, unchanged."""
    if node.op_type == "Where":
        condition = ranges.get(node.input[0])
        if condition is not None and condition.value is not None:
            branch = node.input[1] if condition.value else node.input[2]
            if _is_activation(editor, branch, ranges):
                editor.redirect_consumers(node.output[0], branch)
    neutral = {"Add": 0.0, "Mul": 1.0}.get(node.op_type)
    if neutral is not None:
        for index, name in enumerate(node.input):
            other = node.input[1 - index]
            bounds = ranges.get(name)
            if bounds is not None and bounds.value == neutral and _is_activation(editor, other, ranges):
                editor.redirect_consumers(node.output[0], other)


def _is_activation(editor: GraphEditor, name: str, ranges: Mapping[str, ValueRange]) -> bool:
    """Return whether a tensor depends on the texts, and therefore has the full shape of the node's output."""
    return name not in ranges and editor.producer(name) is not None and editor.constant(name) is None


def _fold_token_type(editor: GraphEditor, node: onnx.NodeProto, ranges: Mapping[str, ValueRange]) -> None:
    """Replace `Gather(words, ids) + Gather(types, zeros)` by one look-up in `words + types[0]`."""
    if node.op_type != "Gather" or (editor.producer(node.input[1]) is None and not editor.has_input(node.input[1])):
        return
    table, index = editor.constant(node.input[0]), ranges.get(node.input[1])
    if table is None or table.ndim != 2 or table.dtype.kind != "f" or index is None or index.value is None:
        return
    row = table[int(index.value)]
    addition = editor.sole_consumer(node.output[0])
    words = _word_lookup(editor, addition, node.output[0]) if addition is not None else None
    if addition is None or words is None:
        editor.redirect_consumers(node.output[0], editor.add_constant(row[None, None], "token_type"))
        return
    merged = editor.constant(words.input[0])
    assert merged is not None
    editor.set_input(words, 0, editor.add_constant(merged + row, "word_and_type_embeddings"))
    editor.redirect_consumers(addition.output[0], words.output[0])


def _word_lookup(editor: GraphEditor, addition: onnx.NodeProto, name: str) -> onnx.NodeProto | None:
    """Return the look-up of word embeddings that is added to a tensor, if there is one."""
    if addition.op_type != "Add":
        return None
    other = addition.input[1] if addition.input[0] == name else addition.input[0]
    lookup = editor.producer(other)
    if lookup is None or lookup.op_type != "Gather" or editor.sole_consumer(other) is None:
        return None
    return lookup if lookup.input[1] == INPUT_IDS and editor.constant(lookup.input[0]) is not None else None


def _derive_from_ids(editor: GraphEditor, name: str) -> None:
    """Compute an input from the shape of the ids; `finish` removes the nodes again if nothing reads them."""
    shape = editor.add_node("Shape", [INPUT_IDS], "ids_shape")
    fill = onnx.numpy_helper.from_array(np.array([UNPADDED_INPUTS[name]], dtype=np.int64))
    assert fill.data_type == TensorProto.INT64
    filled = editor.add_node("ConstantOfShape", [shape], f"{name}_of_ids", value=fill)
    editor.redirect_consumers(name, filled)


def _simplify_mean_pooling(editor: GraphEditor) -> None:
    """Replace sums over all tokens, divided by a count of the mask, by `ReduceMean`.

    In fp16 the sum of 512 tokens may overflow where their mean does not.

    Args:
        editor: A graph in which multiplications by the mask are removed, but whose mask is still an input.
    """
    for node in editor.nodes:
        if node.op_type == "Div":
            total = editor.producer(node.input[0])
            if total is None or get_attribute(total, "keepdims", 1) == 1:
                continue
            if _sums_tokens(editor, total) and _counts_tokens(editor, node.input[1]):
                editor.redirect_consumers(node.output[0], _add_mean(editor, total))


def _sums_tokens(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    axes = editor.constant(node.input[1]) if node.op_type == "ReduceSum" and len(node.input) > 1 else None
    return axes is not None and axes.reshape(-1).tolist() == [1]


def _counts_tokens(editor: GraphEditor, name: str) -> bool:
    """Return whether a tensor is the sum of the mask over tokens."""
    node = editor.producer(_skip_count_operators(editor, name))
    if node is None or not _sums_tokens(editor, node):
        return False
    return _skip_count_operators(editor, node.input[0]) == ATTENTION_MASK


def _skip_count_operators(editor: GraphEditor, name: str) -> str:
    while (node := editor.producer(name)) is not None and node.op_type in COUNT_OPERATORS:
        name = node.input[0]
    return name


def _add_mean(editor: GraphEditor, total: onnx.NodeProto) -> str:
    """Add a mean over tokens, moved to the last axis.

    Over an axis in the middle ONNX Runtime 1.32 sums in a different order for one text than for two.
    """
    tokens_last = editor.add_node("Transpose", [total.input[0]], "tokens_last", perm=[0, 2, 1])
    (opset,) = (entry.version for entry in editor.proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < 18:  # the axes are an input since opset 18
        return editor.add_node("ReduceMean", [tokens_last], "mean_of_tokens", axes=[2], keepdims=0)
    axes = editor.add_constant(np.array([2], np.int64), "tokens_axis")
    return editor.add_node("ReduceMean", [tokens_last, axes], "mean_of_tokens", keepdims=0)
