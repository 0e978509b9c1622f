"""A text's ids as a batch: one window, or several of the same length that overlap, each with its special tokens."""

from __future__ import annotations

import numpy as np

from manylabel.bundle.bundle import SpecialTokens
from manylabel.inference.tokenizer import LongText
from manylabel_export.graph.ir.editor import Editor


def add_windows(editor: Editor, ids: str, special_tokens: SpecialTokens, *, room: int, long_text: LongText) -> str:
    """Cut `ids`, int64 `(n,)`, into windows as the runtime's tokenizer does: the batch, int64 `(windows, length)`.

    All windows of a text are equally long, the last one moved back to end with it: so no mask is needed.

    Args:
        editor: Where nodes are added.
        ids: Name of the text's ids.
        special_tokens: The ids around a window.
        room: Tokens of a text that a window has.
        long_text: With the policy `"window"` or `"truncate"`.
    """

    def number(value: int) -> str:
        return editor.add_constant(np.int64(value), "number")

    def axis(at: int) -> str:
        return editor.add_constant(np.array([at], np.int64), "axis")

    stride = room - long_text.overlap
    windows = long_text.max_windows if long_text.policy == "window" else 1
    most = editor.add_constant(np.array([room + (windows - 1) * stride], np.int64), "most")
    ids = editor.add("Slice", [ids, axis(0), most], "kept")
    size = editor.add("Size", [ids], "size")
    beyond = editor.add("Max", [editor.add("Sub", [size, number(room)], "beyond"), number(0)], "beyond")
    starts = editor.add("Range", [number(0), beyond, number(stride)], "starts")
    last = editor.add("Unsqueeze", [beyond, axis(0)], "last")
    starts = editor.add("Concat", [starts, last], "starts", axis=0)
    length = editor.add("Min", [size, number(room)], "length")
    places = editor.add("Range", [number(0), length, number(1)], "places")
    places = editor.add("Add", [editor.add("Unsqueeze", [starts, axis(1)], "starts"), places], "places")
    body = editor.add("Gather", [ids, places], "body")
    rows = editor.add("Concat", [editor.add("Shape", [starts], "rows"), axis(1)], "rows", axis=0)
    ends = [
        editor.add("Tile", [editor.add_constant(np.array([tokens], np.int64), "special"), rows], "specials")
        for tokens in (special_tokens.prefix, special_tokens.suffix)
    ]
    return editor.add("Concat", [ends[0], body, ends[1]], "windows", axis=1)
