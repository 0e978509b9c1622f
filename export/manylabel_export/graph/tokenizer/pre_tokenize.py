"""Pre-tokenization in the graph: a text to an array of normalised characters, with blanks between words."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from manylabel_export.graph.ir.editor import ML, GraphEditor
from manylabel_export.graph.tokenizer.string_ops import (
    concat,
    equals,
    full_match,
    shift,
    split_characters,
    string_constant,
    string_constants,
    to_bool,
)
from manylabel_export.graph.tokenizer.wordpiece_spec import BLANK, WordPieceSpec

UNCHANGED = "<unchanged>"  # longer than any replacement of a character


def add_pre_tokenizer(editor: GraphEditor, text: str, tokenizer: WordPieceSpec) -> str:
    """Add the nodes that turn a text into normalised characters, string `(n,)`, with blanks between words."""
    text = editor.add_node("StringConcat", [text, string_constant(editor, BLANK)], "text_and_blank")  # never empty
    raw = split_characters(editor, text)
    is_special, placeholder = _find_special_tokens(editor, raw, tokenizer)
    table = tokenizer.characters
    followed = editor.add_node("StringConcat", [raw, string_constant(editor, BLANK)], "followed")
    cases = [(full_match(editor, raw, table.removed), string_constant(editor, ""))]
    is_isolated = full_match(editor, raw, table.isolated)
    isolated = editor.add_node("StringConcat", [string_constant(editor, BLANK), followed], "alone")
    cases += [(is_isolated, isolated), (is_special, placeholder)]
    replaced = editor.add_node(
        "LabelEncoder",
        [raw],
        "changed",
        domain=ML,
        keys_strings=list(table.replaced),
        values_strings=list(table.replaced.values()),
        default_string=UNCHANGED,
    )
    result = editor.add_node("Where", [equals(editor, replaced, UNCHANGED), raw, replaced], "placed")
    for condition, value in cases:
        result = editor.add_node("Where", [condition, value, result], "placed")
    return split_characters(editor, result)


def _find_special_tokens(editor: GraphEditor, raw: str, tokenizer: WordPieceSpec) -> tuple[str, str]:
    """Find the special tokens that a text contains.

    Returns:
        Which characters belong to one, bool `(n,)`; and the placeholder of the token at its first character, ""
        elsewhere, string `(n,)`.
    """
    placeholders, longest = tokenizer.placeholders, max(map(len, tokenizer.special_tokens), default=1)
    padded = concat(editor, [raw, string_constants(editor, [BLANK] * longest)])
    covered, placeholder = editor.add_constant(np.array([False]), "none"), string_constant(editor, "")
    substring = raw  # of every character: itself and the `length - 1` that follow it
    for length in range(2, longest + 1):
        following = shift(editor, padded, length - 1, longest)
        substring = editor.add_node("StringConcat", [substring, following], "spelled")
        tokens = [token for token in placeholders if len(token) == length]
        if tokens:
            mark = editor.add_node(
                "LabelEncoder",
                [substring],
                "mark",
                domain=ML,
                keys_strings=tokens,
                values_strings=[f" {placeholders[token]} " for token in tokens],
                default_string="",
            )
            begins = editor.add_node("Not", [equals(editor, mark, "")], "begins")
            placeholder = editor.add_node("Where", [begins, mark, placeholder], "special")
            covered = editor.add_node("Or", [covered, _extend(editor, begins, length)], "covered")
    return covered, placeholder


def _extend(editor: GraphEditor, begins: str, length: int) -> str:
    """Mark the `length` positions from each marked one on, bool `(n,)`."""
    axes = editor.add_constant(np.array([0, 1], np.int64), "axes")
    cast = editor.add_node("Cast", [begins], "cast", to=TensorProto.FLOAT)
    values = editor.add_node("Unsqueeze", [cast, axes], "values")
    pooled = editor.add_node("MaxPool", [values], "extended", kernel_shape=[length], pads=[length - 1, 0])
    return to_bool(editor, editor.add_node("Squeeze", [pooled, axes], "flat"))
