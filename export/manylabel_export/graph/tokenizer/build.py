"""One graph that takes text: tokenizer and windows before the model, thresholds and label names after it.

It consists of operators that every build of ONNX Runtime has, so no library has to be registered: the BERT tokenizer of
`onnxruntime-extensions` gives different tokens wherever there is an emoji (docs/decisions/0021).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from manylabel.bundle.bundle import SpecialTokens
from manylabel.inference.tokenizer import LongText
from manylabel_export.graph.ir.editor import ATTENTION_MASK, INPUT_IDS, LOGITS, PROBABILITIES, GraphEditor, copy_model
from manylabel_export.graph.ir.serialization import raise_opset
from manylabel_export.graph.passes.mask_elimination import eliminate_mask
from manylabel_export.graph.tokenizer.wordpiece_lookup import add_wordpiece_tokenizer
from manylabel_export.graph.tokenizer.wordpiece_spec import WordPieceSpec

FILE = "text_to_labels.onnx"
TOKENIZER_OPSET = 20  # the first with StringConcat and RegexFullMatch: ONNX Runtime 1.17; int8 needs opset 21, and 1.18
TEXT = "text"
IDS = "ids"
LABELS = "labels"


def build_tokenizer_graph(tokenizer: WordPieceSpec) -> onnx.ModelProto:
    """Build the tokenizer alone.

    Returns:
        A graph from `text`, string `(1,)`, to `ids`, int64 `(n,)`, without special tokens around them.
    """
    ids = helper.make_tensor_value_info(IDS, TensorProto.INT64, [None])
    graph = helper.make_graph([], "tokenizer", [_text_input()], [ids])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", TOKENIZER_OPSET)], ir_version=9)
    editor = GraphEditor(proto)
    editor.add_node("Identity", [add_wordpiece_tokenizer(editor, TEXT, tokenizer)], IDS)
    return editor.finish()


def build_text_graph(
    proto: onnx.ModelProto,
    tokenizer: WordPieceSpec,
    *,
    special_tokens: SpecialTokens,
    max_length: int,
    long_text: LongText,
    labels: Sequence[str],
    thresholds: NDArray[Any],
) -> onnx.ModelProto:
    """Build a graph from a text to its labels.

    Args:
        proto: The graph of a bundle's CPU variant.
        tokenizer: The content of its `tokenizer.json`.
        special_tokens: The ids before and after a text.
        max_length: The number of tokens that the model reads at once, including special tokens.
        long_text: The policy `"window"` or `"truncate"`, as in the runtime.
        labels: The labels in column order.
        thresholds: Shape `(n_labels,)`.

    Returns:
        A graph with the input `text`, string `(1,)`, and the outputs `labels`, string `(k,)`, the labels that apply in
        column order, and `probabilities`, float32 `(1, n_labels)`. Its metadata holds labels and thresholds as JSON.
    """
    whole = copy_model(proto) if _opset(proto) >= TOKENIZER_OPSET else raise_opset(proto, TOKENIZER_OPSET)
    has_mask = any(value.name == ATTENTION_MASK for value in whole.graph.input)
    editor = GraphEditor(eliminate_mask(whole) if has_mask else whole)
    del editor.graph.input[:]
    editor.graph.input.append(_text_input())
    ids = add_wordpiece_tokenizer(editor, TEXT, tokenizer)
    room = max_length - len(special_tokens.prefix) - len(special_tokens.suffix)
    windows = _add_windows(editor, ids, special_tokens, room=room, long_text=long_text)
    editor.redirect_consumers(INPUT_IDS, windows)
    _add_labels(editor, labels, thresholds)
    result = editor.finish()
    metadata = {"labels": list(labels), "thresholds": [float(each) for each in thresholds], "max_length": max_length}
    helper.set_model_props(result, {"manylabel": json.dumps(metadata, ensure_ascii=False)})
    return result


def _add_windows(
    editor: GraphEditor, ids: str, special_tokens: SpecialTokens, *, room: int, long_text: LongText
) -> str:
    """Split `ids`, int64 `(n,)`, into windows as the runtime's tokenizer does: a batch, int64 `(windows, length)`.

    All windows of a text have the same length, because the last one is moved back to end with the text; so no mask is
    needed.

    Args:
        editor: The graph.
        ids: The name of the text's ids.
        special_tokens: The ids before and after each window.
        room: The number of a text's tokens in a window.
        long_text: The policy `"window"` or `"truncate"`.
    """

    def number(value: int) -> str:
        return editor.add_constant(np.int64(value), "number")

    def axis(index: int) -> str:
        return editor.add_constant(np.array([index], np.int64), "axis")

    stride = room - long_text.overlap
    max_windows = long_text.max_windows if long_text.policy == "window" else 1
    most = editor.add_constant(np.array([room + (max_windows - 1) * stride], np.int64), "most")
    ids = editor.add_node("Slice", [ids, axis(0), most], "kept")
    size = editor.add_node("Size", [ids], "size")
    last_start = editor.add_node("Max", [editor.add_node("Sub", [size, number(room)], "beyond"), number(0)], "beyond")
    starts = editor.add_node("Range", [number(0), last_start, number(stride)], "starts")
    last = editor.add_node("Unsqueeze", [last_start, axis(0)], "last")
    starts = editor.add_node("Concat", [starts, last], "starts", axis=0)
    length = editor.add_node("Min", [size, number(room)], "length")
    positions = editor.add_node("Range", [number(0), length, number(1)], "places")
    positions = editor.add_node("Add", [editor.add_node("Unsqueeze", [starts, axis(1)], "starts"), positions], "places")
    body = editor.add_node("Gather", [ids, positions], "body")
    rows = editor.add_node("Concat", [editor.add_node("Shape", [starts], "rows"), axis(1)], "rows", axis=0)
    prefix, suffix = (
        editor.add_node("Tile", [editor.add_constant(np.array([tokens], np.int64), "special"), rows], "specials")
        for tokens in (special_tokens.prefix, special_tokens.suffix)
    )
    return editor.add_node("Concat", [prefix, body, suffix], "windows", axis=1)


def _add_labels(editor: GraphEditor, labels: Sequence[str], thresholds: NDArray[Any]) -> None:
    """Make `labels` and the maximum of `probabilities` over all windows the outputs of the graph.

    Args:
        editor: A graph with the output `probabilities`, float32 `(windows, n_labels)`.
        labels: The labels in column order.
        thresholds: Shape `(n_labels,)`; a label applies from its threshold on.
    """
    first = editor.add_constant(np.array([0], np.int64), "first_axis")
    # the sigmoid is monotone, so the maximum of the logits is the maximum of the probabilities
    greatest = editor.add_node("ReduceMax", [LOGITS, first], "greatest", keepdims=1)
    editor.replace_tensor(PROBABILITIES, editor.add_node("Sigmoid", [greatest], "of_text"))
    limits = editor.add_constant(np.asarray(thresholds, dtype=np.float32), "thresholds")
    row = editor.add_node("Squeeze", [PROBABILITIES, first], "row")
    applies = editor.add_node("GreaterOrEqual", [row, limits], "applies")
    names = editor.add_constant(np.array(list(labels)), "names")
    editor.add_node("Compress", [names, applies], LABELS, axis=0)
    del editor.graph.output[:]
    editor.graph.output.append(helper.make_tensor_value_info(LABELS, TensorProto.STRING, [None]))
    editor.graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [1, len(labels)]))


def _text_input() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(TEXT, TensorProto.STRING, [1])


def _opset(proto: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in proto.opset_import if entry.domain == ""))
