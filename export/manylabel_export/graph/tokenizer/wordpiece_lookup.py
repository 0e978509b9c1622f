"""Characters to the ids of pieces: WordPiece in operators of ONNX Runtime.

Strings are compared as strings: no hashes, so that no text can be read for another. At every place the pieces that
begin there are looked up, length by length; from each word's first character one goes on by the longest, which is what
WordPiece does. A word that cannot be read to its end is unknown.
"""

from __future__ import annotations

import math

import numpy as np

from manylabel_export.graph.ir.editor import ML, Editor
from manylabel_export.graph.tokenizer.pre_tokenize import add_characters
from manylabel_export.graph.tokenizer.string_ops import equal, joined, shifted, string, strings, to_bool, to_int
from manylabel_export.graph.tokenizer.wordpiece_spec import BLANK, WITHIN, WordPiece


def add_tokenizer(editor: Editor, text: str, tokenizer: WordPiece) -> str:
    """Adds what reads `text`, string `(1,)`; gives the name of its ids, int64 `(n,)`, without special tokens."""
    return _Pieces(editor, tokenizer, add_characters(editor, text, tokenizer)).ids()


class _Pieces:
    """The pieces of an array of characters.

    Args:
        editor: Where nodes are added.
        tokenizer: Whose pieces they are.
        characters: String `(n,)`; blanks between words.
    """

    def __init__(self, editor: Editor, tokenizer: WordPiece, characters: str) -> None:
        self._editor = editor
        self._tokenizer = tokenizer
        self._reach = max(tokenizer.pieces)
        ends = strings(editor, [BLANK])
        self._padded = joined(editor, [ends, characters, ends, strings(editor, [BLANK] * self._reach)])
        self._here = shifted(editor, self._padded, 0, self._reach)
        self._inside = editor.add("Not", [equal(editor, self._here, BLANK)], "inside")

    def ids(self) -> str:
        """The ids of all words' pieces in order, int64 `(m,)`."""
        add, editor = self._editor.add, self._editor
        first = self._first()
        found, length = self._longest(first)
        step = add("Add", [self._places(), length], "next")
        reached = add("And", [self._reached(first, step), self._inside], "reached")
        word = add("Sub", [add("CumSum", [to_int(editor, first), self._number(0)], "words"), self._number(1)], "word")
        word = add("Max", [word, self._number(0)], "word")
        stuck = add("And", [reached, add("Equal", [length, self._number(0)], "none")], "stuck")
        failed = add("Or", [self._any(word, stuck), self._too_long(word)], "failed")
        read = add("And", [reached, add("Not", [failed], "whole")], "read")
        kept = add("Or", [read, add("And", [failed, first], "unknown")], "kept")
        values = add("Where", [failed, self._number(self._tokenizer.unknown), found], "values")
        return add("Compress", [values, kept], "piece_ids", axis=0)

    def _first(self) -> str:
        """Where words begin: after a blank; the array begins with one."""
        editor = self._editor
        last = editor.add_constant(np.array([-1], np.int64), "last")
        zero = editor.add_constant(np.array([0], np.int64), "zero")
        outside = editor.add("Not", [self._inside], "outside")
        before = joined(
            editor, [editor.add_constant(np.array([False]), "no"), editor.add("Slice", [outside, zero, last], "before")]
        )
        return editor.add("And", [self._inside, before], "first")

    def _longest(self, first: str) -> tuple[str, str]:
        """Of every place, the longest piece that begins there: its id and its length, 0 where there is none."""
        editor = self._editor
        within = editor.add("StringConcat", [string(editor, WITHIN), self._here], "within")
        spelled = editor.add("Where", [first, self._here, within], "spelled")
        found, best = self._number(-1), self._number(0)
        for length in range(1, self._reach + 1):
            if length > 1:
                after = shifted(editor, self._padded, length - 1, self._reach)
                spelled = editor.add("StringConcat", [spelled, after], "spelled")
            if pieces := self._pieces(length):
                ids = editor.add(
                    "LabelEncoder",
                    [spelled],
                    "piece",
                    domain=ML,
                    keys_strings=list(pieces),
                    values_int64s=list(pieces.values()),
                    default_int64=-1,
                )
                fits = editor.add("GreaterOrEqual", [ids, self._number(0)], "fits")
                found = editor.add("Where", [fits, ids, found], "found")
                best = editor.add("Where", [fits, self._number(length), best], "length")
        return found, best

    def _pieces(self, length: int) -> dict[str, int]:
        """The pieces of a length; special tokens by their marks."""
        specials = {self._tokenizer.marks[content]: at for content, at in self._tokenizer.specials.items()}
        return self._tokenizer.pieces.get(length, {}) | (specials if length == 1 else {})

    def _reached(self, first: str, step: str) -> str:
        """The places that one comes to from words' first characters by `step`, in twice as many steps each time."""
        editor = self._editor
        reached = to_int(editor, first)
        for _ in range(math.ceil(math.log2(self._tokenizer.longest + 1))):
            reached = editor.add("ScatterElements", [reached, step, reached], "reached", reduction="max")
            step = editor.add("Gather", [step, step], "next")
        return to_bool(editor, reached)

    def _any(self, word: str, places: str) -> str:
        """Of every place, whether its word has one of `places`."""
        editor = self._editor
        values = to_int(editor, places)
        none = editor.add("Mul", [values, self._number(0)], "none")
        found = editor.add("ScatterElements", [none, word, values], "found", reduction="max")
        return to_bool(editor, editor.add("Gather", [found, word], "of_word"))

    def _too_long(self, word: str) -> str:
        """Of every place, whether its word has more characters than are looked at."""
        editor = self._editor
        values = to_int(editor, self._inside)
        none = editor.add("Mul", [values, self._number(0)], "none")
        count = editor.add("ScatterElements", [none, word, values], "characters", reduction="add")
        count = editor.add("Gather", [count, word], "of_word")
        return editor.add("Greater", [count, self._number(self._tokenizer.longest)], "too_long")

    def _places(self) -> str:
        """0, 1, 2, ..."""
        editor = self._editor
        size = editor.add("Size", [self._here], "size")
        return editor.add("Range", [self._number(0), size, self._number(1)], "places")

    def _number(self, value: int) -> str:
        return self._editor.add_constant(np.int64(value), "number")
