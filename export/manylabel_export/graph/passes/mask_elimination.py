"""Drops what a batch of equally long texts does not need: the attention mask and the token types."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from manylabel_export.graph.analysis.value_ranges import Interval, analyse
from manylabel_export.graph.ir.editor import Editor, clone
from manylabel_export.graph.ir.external_data import Store
from manylabel_export.graph.passes.mean_pooling import plain_means

FILLED = {"attention_mask": 1, "token_type_ids": 0}  # in a batch without padding, of single texts


def drop_mask(proto: onnx.ModelProto, store: Store | None = None) -> onnx.ModelProto:
    """Specialises a graph for texts of equal length, without padding.

    A mask without effect (adding zeros, multiplying by ones, choosing always the same branch) is removed; the
    row of token type 0 goes into the table of word embeddings, which gives the same bits as adding it at run
    time. What still depends on the mask, such as a sliding window, is fed ones made from the shape of the ids.

    Args:
        proto: A cleaned graph with the inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`.
        store: Where a new table of word embeddings is kept; None for in the graph.

    Returns:
        A new model with the single input `input_ids`, int64 `(batch, sequence)`.
    """
    editor = Editor(clone(proto), store)
    given = {name: Interval(value, value) for name, value in FILLED.items() if editor.has_input(name)}
    known = analyse(editor, given)
    for node in editor.nodes:
        _fold_token_type(editor, node, known)
        _bypass(editor, node, known)
    plain_means(editor)
    for name in given:
        _feed_from_shape(editor, name)
    return editor.finish()


def _bypass(editor: Editor, node: onnx.NodeProto, known: dict[str, Interval]) -> None:
    """Skips a node whose other operand is an activation and which returns that operand unchanged."""
    if node.op_type == "Where":
        condition = known.get(node.input[0])
        if condition is not None and condition.value is not None:
            chosen = node.input[1] if condition.value else node.input[2]
            if _is_activation(editor, chosen, known):
                editor.redirect(node.output[0], chosen)
    neutral = {"Add": 0.0, "Mul": 1.0}.get(node.op_type)
    if neutral is not None:
        for index, name in enumerate(node.input):
            other = node.input[1 - index]
            interval = known.get(name)
            if interval is not None and interval.value == neutral and _is_activation(editor, other, known):
                editor.redirect(node.output[0], other)


def _is_activation(editor: Editor, name: str, known: dict[str, Interval]) -> bool:
    """Whether a tensor depends on the texts, and so has the full shape of what it is combined with."""
    return name not in known and editor.producer(name) is not None and editor.constant(name) is None


def _fold_token_type(editor: Editor, node: onnx.NodeProto, known: dict[str, Interval]) -> None:
    """Replaces `Gather(words, ids) + Gather(types, zeros)` by one look-up in `words + types[0]`."""
    if node.op_type != "Gather" or (editor.producer(node.input[1]) is None and not editor.has_input(node.input[1])):
        return
    table, index = editor.constant(node.input[0]), known.get(node.input[1])
    if table is None or table.ndim != 2 or table.dtype.kind != "f" or index is None or index.value is None:
        return
    row = table[int(index.value)]
    addition = editor.sole_consumer(node.output[0])
    words = _other_lookup(editor, addition, node.output[0]) if addition is not None else None
    if addition is None or words is None:
        editor.redirect(node.output[0], editor.add_constant(row[None, None], "token_type"))
        return
    merged = editor.constant(words.input[0])
    assert merged is not None
    editor.set_input(words, 0, editor.add_constant(merged + row, "word_and_type_embeddings"))
    editor.redirect(addition.output[0], words.output[0])


def _other_lookup(editor: Editor, addition: onnx.NodeProto, name: str) -> onnx.NodeProto | None:
    """The look-up of the word embeddings that an addition combines with another tensor."""
    if addition.op_type != "Add":
        return None
    other = addition.input[1] if addition.input[0] == name else addition.input[0]
    lookup = editor.producer(other)
    if lookup is None or lookup.op_type != "Gather" or editor.sole_consumer(other) is None:
        return None
    return lookup if lookup.input[1] == "input_ids" and editor.constant(lookup.input[0]) is not None else None


def _feed_from_shape(editor: Editor, name: str) -> None:
    """Makes an input from the shape of the ids; the node vanishes again where nothing reads it."""
    shape = editor.add("Shape", ["input_ids"], "ids_shape")
    fill = onnx.numpy_helper.from_array(np.array([FILLED[name]], dtype=np.int64))
    assert fill.data_type == TensorProto.INT64
    made = editor.add("ConstantOfShape", [shape], f"{name}_of_ids", value=fill)
    editor.redirect(name, made)
