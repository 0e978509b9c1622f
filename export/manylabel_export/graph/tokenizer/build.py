"""One file that takes text: the tokenizer, the windows and the thresholds in the graph, before and after the model.

Made of operators that every build of ONNX Runtime has, with no library to register: the ready-made BERT tokenizer of
`onnxruntime-extensions` reads other tokens wherever there is an emoji (docs/decisions/0021).

In reading order: `wordpiece` (what a tokenizer says, and `characters`, what it makes of each), `spelling` (text to
characters), `pieces` (characters to ids), `windows` (ids to a batch), `labels` (probabilities to names); `strings` has
their common operators, and `proof` holds the file to the bundle that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from manylabel.bundle.bundle import SpecialTokens
from manylabel.inference.tokenizer import LongText
from manylabel_export.graph.ir.editor import Editor, clone
from manylabel_export.graph.passes.mask_elimination import drop_mask
from manylabel_export.graph.quantization.int8 import raise_opset
from manylabel_export.graph.tokenizer.label_output import add_labels
from manylabel_export.graph.tokenizer.windowing import add_windows
from manylabel_export.graph.tokenizer.wordpiece_lookup import add_tokenizer
from manylabel_export.graph.tokenizer.wordpiece_spec import WordPiece

__all__ = ["FILE", "WordPiece", "ids_graph", "text_graph"]

FILE = "text_to_labels.onnx"
OPSET = 20  # the first with StringConcat and RegexFullMatch: ONNX Runtime 1.17; int8 takes one more, and 1.18
TEXT = "text"
IDS = "ids"


def ids_graph(tokenizer: WordPiece) -> onnx.ModelProto:
    """The tokenizer alone: `text`, string `(1,)`, to `ids`, int64 `(n,)`, without special tokens."""
    graph = helper.make_graph(
        [], "tokenizer", [_text()], [helper.make_tensor_value_info(IDS, TensorProto.INT64, [None])]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    editor = Editor(proto)
    editor.add("Identity", [add_tokenizer(editor, TEXT, tokenizer)], IDS)
    return editor.finish()


def text_graph(
    proto: onnx.ModelProto,
    tokenizer: WordPiece,
    *,
    special_tokens: SpecialTokens,
    max_length: int,
    long_text: LongText,
    labels: Sequence[str],
    thresholds: NDArray[Any],
) -> onnx.ModelProto:
    """The whole way from a text to its labels as one graph.

    Args:
        proto: A bundle's graph for the CPU.
        tokenizer: What its `tokenizer.json` says.
        special_tokens: The ids around a text.
        max_length: Tokens that the model reads at once, special ones included.
        long_text: `"window"` or `"truncate"`, as the runtime does it.
        labels: In column order.
        thresholds: Shape `(n_labels,)`.

    Returns:
        A graph with the input `text`, string `(1,)`, and the outputs `labels`, string `(k,)`, those that apply in
        column order, and `probabilities`, float32 `(1, n_labels)`. Its metadata has labels and thresholds as JSON.
    """
    whole = clone(proto) if _opset(proto) >= OPSET else raise_opset(proto, OPSET)
    masked = any(value.name == "attention_mask" for value in whole.graph.input)
    editor = Editor(drop_mask(whole) if masked else whole)
    del editor.graph.input[:]
    editor.graph.input.append(_text())
    ids = add_tokenizer(editor, TEXT, tokenizer)
    room = max_length - len(special_tokens.prefix) - len(special_tokens.suffix)
    editor.redirect("input_ids", add_windows(editor, ids, special_tokens, room=room, long_text=long_text))
    add_labels(editor, labels, thresholds)
    result = editor.finish()
    said = {"labels": list(labels), "thresholds": [float(one) for one in thresholds], "max_length": max_length}
    helper.set_model_props(result, {"manylabel": json.dumps(said, ensure_ascii=False)})
    return result


def _text() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(TEXT, TensorProto.STRING, [1])


def _opset(proto: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in proto.opset_import if entry.domain == ""))
