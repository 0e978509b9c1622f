"""A text as an array of characters, as BERT's normaliser and splitter leave them, with blanks between words."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from manylabel_export.graph.ir.editor import ML, Editor
from manylabel_export.graph.tokenizer.string_ops import equal, joined, matches, shifted, split, string, strings, to_bool
from manylabel_export.graph.tokenizer.wordpiece_spec import BLANK, WordPiece

UNCHANGED = "<unchanged>"  # longer than what any character becomes


def add_characters(editor: Editor, text: str, tokenizer: WordPiece) -> str:
    """A text's characters as the model reads them, string `(n,)`, with blanks between words."""
    text = editor.add("StringConcat", [text, string(editor, BLANK)], "text_and_blank")  # so that it is never empty
    raw = split(editor, text)
    whole, start = _specials(editor, raw, tokenizer)
    table = tokenizer.characters
    marked = editor.add("StringConcat", [raw, string(editor, BLANK)], "followed")
    cases = [(matches(editor, raw, table.removed), string(editor, ""))]
    cases += [(matches(editor, raw, table.alone), editor.add("StringConcat", [string(editor, BLANK), marked], "alone"))]
    cases += [(whole, start)]
    found = editor.add(
        "LabelEncoder",
        [raw],
        "changed",
        domain=ML,
        keys_strings=list(table.changed),
        values_strings=list(table.changed.values()),
        default_string=UNCHANGED,
    )
    found = editor.add("Where", [equal(editor, found, UNCHANGED), raw, found], "placed")
    for condition, value in cases:
        found = editor.add("Where", [condition, value, found], "placed")
    return split(editor, found)


def _specials(editor: Editor, raw: str, tokenizer: WordPiece) -> tuple[str, str]:
    """Where a special token is spelled, bool `(n,)`; and its mark at the beginning, "" elsewhere, string `(n,)`."""
    marks, longest = tokenizer.marks, max(map(len, tokenizer.specials), default=1)
    padded = joined(editor, [raw, strings(editor, [BLANK] * longest)])
    covered, start = editor.add_constant(np.array([False]), "none"), string(editor, "")
    spelled = raw
    for length in range(2, longest + 1):
        spelled = editor.add("StringConcat", [spelled, shifted(editor, padded, length - 1, longest)], "spelled")
        keys = [content for content in marks if len(content) == length]
        if keys:
            mark = editor.add(
                "LabelEncoder",
                [spelled],
                "mark",
                domain=ML,
                keys_strings=keys,
                values_strings=[f" {marks[key]} " for key in keys],
                default_string="",
            )
            begins = editor.add("Not", [equal(editor, mark, "")], "begins")
            start = editor.add("Where", [begins, mark, start], "special")
            covered = editor.add("Or", [covered, _extended(editor, begins, length)], "covered")
    return covered, start


def _extended(editor: Editor, begins: str, length: int) -> str:
    """The places that follow within `length`, too; bool `(n,)`."""
    axes = editor.add_constant(np.array([0, 1], np.int64), "axes")
    values = editor.add("Unsqueeze", [editor.add("Cast", [begins], "cast", to=TensorProto.FLOAT), axes], "values")
    pooled = editor.add("MaxPool", [values], "extended", kernel_shape=[length], pads=[length - 1, 0])
    return to_bool(editor, editor.add("Squeeze", [pooled, axes], "flat"))
