"""Operations on arrays of strings, as nodes of ONNX Runtime. Each takes and returns names of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from manylabel_export.graph.ir.editor import CONTRIB, GraphEditor

PADDING = "<padding>"  # longer than any character


def split_characters(editor: GraphEditor, array: str) -> str:
    """Split all strings into their characters, string `(n,)`."""
    options: dict[str, Any] = {"mark": 0, "mincharnum": 1, "pad_value": PADDING, "separators": [""]}
    table = editor.add_node("Tokenizer", [array], "split", domain=CONTRIB, **options)
    flat = editor.add_node("Reshape", [table, editor.add_constant(np.array([-1], np.int64), "flat")], "characters")
    is_character = editor.add_node("Not", [equals(editor, flat, PADDING)], "kept")
    return editor.add_node("Compress", [flat, is_character], "characters", axis=0)


def shift(editor: GraphEditor, padded: str, by: int, padding: int) -> str:
    """Drop the first `by` elements of an array that ends in `padding` blanks, and all but `by` of the blanks."""
    limits = [editor.add_constant(np.array([at], np.int64), "limit") for at in (by, by - padding)]
    return editor.add_node("Slice", [padded, *limits], "shifted")


def concat(editor: GraphEditor, arrays: list[str]) -> str:
    """Concatenate arrays."""
    return editor.add_node("Concat", arrays, "joined", axis=0)


def full_match(editor: GraphEditor, array: str, pattern: str) -> str:
    """Test which strings match an RE2 pattern completely, bool `(n,)`."""
    return editor.add_node("RegexFullMatch", [array], "matches", pattern=pattern)


def equals(editor: GraphEditor, array: str, value: str) -> str:
    """Test which strings equal a given one, bool `(n,)`."""
    return editor.add_node("Equal", [array, string_constant(editor, value)], "equal")


def to_int(editor: GraphEditor, flags: str) -> str:
    """Convert bool to 0 and 1, int64 `(n,)`."""
    return editor.add_node("Cast", [flags], "int", to=TensorProto.INT64)


def to_bool(editor: GraphEditor, values: str) -> str:
    """Test which values are not 0, bool `(n,)`."""
    return editor.add_node("Cast", [values], "bool", to=TensorProto.BOOL)


def string_constant(editor: GraphEditor, value: str) -> str:
    """Add a constant of one string, `(1,)`."""
    return string_constants(editor, [value])


def string_constants(editor: GraphEditor, values: list[str]) -> str:
    """Add a constant of several strings, `(n,)`."""
    return editor.add_constant(np.array(values), "strings")
