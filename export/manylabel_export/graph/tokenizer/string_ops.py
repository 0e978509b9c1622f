"""What is done to arrays of strings in a graph, by operators of ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from manylabel_export.graph.ir.editor import CONTRIB, Editor

PADDING = "<padding>"  # longer than any character


def split(editor: Editor, array: str) -> str:
    """The characters of all strings in order, string `(n,)`."""
    options: dict[str, Any] = {"mark": 0, "mincharnum": 1, "pad_value": PADDING, "separators": [""]}
    table = editor.add("Tokenizer", [array], "split", domain=CONTRIB, **options)
    flat = editor.add("Reshape", [table, editor.add_constant(np.array([-1], np.int64), "flat")], "characters")
    kept = editor.add("Not", [equal(editor, flat, PADDING)], "kept")
    return editor.add("Compress", [flat, kept], "characters", axis=0)


def shifted(editor: Editor, padded: str, by: int, padding: int) -> str:
    """Of an array with `padding` places behind it: as long as the array, beginning `by` places later."""
    limits = [editor.add_constant(np.array([at], np.int64), "limit") for at in (by, by - padding)]
    return editor.add("Slice", [padded, *limits], "shifted")


def joined(editor: Editor, arrays: list[str]) -> str:
    """One array behind the other."""
    return editor.add("Concat", arrays, "joined", axis=0)


def matches(editor: Editor, array: str, pattern: str) -> str:
    """Which strings a pattern of RE2 fits as a whole, bool `(n,)`."""
    return editor.add("RegexFullMatch", [array], "matches", pattern=pattern)


def equal(editor: Editor, array: str, value: str) -> str:
    """Which strings are a given one, bool `(n,)`."""
    return editor.add("Equal", [array, string(editor, value)], "equal")


def to_int(editor: Editor, places: str) -> str:
    """Bool as 0 and 1, int64 `(n,)`."""
    return editor.add("Cast", [places], "int", to=TensorProto.INT64)


def to_bool(editor: Editor, values: str) -> str:
    """Whether a value is not 0, bool `(n,)`."""
    return editor.add("Cast", [values], "bool", to=TensorProto.BOOL)


def string(editor: Editor, value: str) -> str:
    """A constant of one string, `(1,)`."""
    return strings(editor, [value])


def strings(editor: Editor, values: list[str]) -> str:
    """A constant of several, `(n,)`."""
    return editor.add_constant(np.array(values), "strings")
