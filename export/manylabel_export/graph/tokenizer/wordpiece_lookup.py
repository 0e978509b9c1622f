"""WordPiece in the graph: characters to token ids, with operators of ONNX Runtime.

Strings are compared as strings, without hashes, so no text can be mistaken for another. At every position the pieces
that begin there are looked up, length by length. From each word's first character the longest piece leads to the next
position, as in WordPiece's greedy algorithm. A word that cannot be read to its end is unknown.
"""

from __future__ import annotations

import math

import numpy as np

from manylabel_export.graph.ir.editor import ML, GraphEditor
from manylabel_export.graph.tokenizer.pre_tokenize import add_pre_tokenizer
from manylabel_export.graph.tokenizer.string_ops import (
    concat,
    equals,
    shift,
    string_constant,
    string_constants,
    to_bool,
    to_int,
)
from manylabel_export.graph.tokenizer.wordpiece_spec import BLANK, CONTINUATION, WordPieceSpec


def add_wordpiece_tokenizer(editor: GraphEditor, text: str, tokenizer: WordPieceSpec) -> str:
    """Add the tokenizer of `text`, string `(1,)`.

    Returns:
        The name of the token ids, int64 `(n,)`, without special tokens around them.
    """
    return _WordPieceLookup(editor, tokenizer, add_pre_tokenizer(editor, text, tokenizer)).add_ids()


class _WordPieceLookup:
    """The look-up of pieces in an array of characters.

    Args:
        editor: The graph.
        tokenizer: The vocabulary.
        characters: String `(n,)`, with blanks between words.
    """

    def __init__(self, editor: GraphEditor, tokenizer: WordPieceSpec, characters: str) -> None:
        self._editor = editor
        self._tokenizer = tokenizer
        self._longest_piece = max(tokenizer.pieces)
        ends = string_constants(editor, [BLANK])
        padding = string_constants(editor, [BLANK] * self._longest_piece)
        self._padded = concat(editor, [ends, characters, ends, padding])
        self._characters = shift(editor, self._padded, 0, self._longest_piece)
        self._in_word = editor.add_node("Not", [equals(editor, self._characters, BLANK)], "inside")

    def add_ids(self) -> str:
        """Add the token ids of all words in order, int64 `(m,)`."""
        add, editor = self._editor.add_node, self._editor
        first = self._first_characters()
        piece, length = self._longest_pieces(first)
        step = add("Add", [self._positions(), length], "next")
        reached = add("And", [self._reached(first, step), self._in_word], "reached")
        word = add("Sub", [add("CumSum", [to_int(editor, first), self._number(0)], "words"), self._number(1)], "word")
        word = add("Max", [word, self._number(0)], "word")
        stuck = add("And", [reached, add("Equal", [length, self._number(0)], "none")], "stuck")
        failed = add("Or", [self._any_in_word(word, stuck), self._too_long(word)], "failed")
        read = add("And", [reached, add("Not", [failed], "whole")], "read")
        kept = add("Or", [read, add("And", [failed, first], "unknown")], "kept")
        values = add("Where", [failed, self._number(self._tokenizer.unknown), piece], "values")
        return add("Compress", [values, kept], "piece_ids", axis=0)

    def _first_characters(self) -> str:
        """Mark where words begin, after a blank; the array begins with one."""
        editor = self._editor
        last = editor.add_constant(np.array([-1], np.int64), "last")
        zero = editor.add_constant(np.array([0], np.int64), "zero")
        outside = editor.add_node("Not", [self._in_word], "outside")
        no = editor.add_constant(np.array([False]), "no")
        after_blank = concat(editor, [no, editor.add_node("Slice", [outside, zero, last], "before")])
        return editor.add_node("And", [self._in_word, after_blank], "first")

    def _longest_pieces(self, first: str) -> tuple[str, str]:
        """Add, for every position, the id and the length of the longest piece that begins there; length 0 for none."""
        editor = self._editor
        continued = editor.add_node("StringConcat", [string_constant(editor, CONTINUATION), self._characters], "within")
        substring = editor.add_node("Where", [first, self._characters, continued], "spelled")
        piece, piece_length = self._number(-1), self._number(0)
        for length in range(1, self._longest_piece + 1):
            if length > 1:
                following = shift(editor, self._padded, length - 1, self._longest_piece)
                substring = editor.add_node("StringConcat", [substring, following], "spelled")
            if pieces := self._pieces_of(length):
                ids = editor.add_node(
                    "LabelEncoder",
                    [substring],
                    "piece",
                    domain=ML,
                    keys_strings=list(pieces),
                    values_int64s=list(pieces.values()),
                    default_int64=-1,
                )
                fits = editor.add_node("GreaterOrEqual", [ids, self._number(0)], "fits")
                piece = editor.add_node("Where", [fits, ids, piece], "found")
                piece_length = editor.add_node("Where", [fits, self._number(length), piece_length], "length")
        return piece, piece_length

    def _pieces_of(self, length: int) -> dict[str, int]:
        """Return the pieces of a length, with special tokens as their placeholders."""
        placeholders = self._tokenizer.placeholders
        special = {placeholders[token]: token_id for token, token_id in self._tokenizer.special_tokens.items()}
        return self._tokenizer.pieces.get(length, {}) | (special if length == 1 else {})

    def _reached(self, first: str, step: str) -> str:
        """Mark the positions reached from words' first characters by `step`, which doubles in every round."""
        editor = self._editor
        reached = to_int(editor, first)
        for _ in range(math.ceil(math.log2(self._tokenizer.max_word_length + 1))):
            reached = editor.add_node("ScatterElements", [reached, step, reached], "reached", reduction="max")
            step = editor.add_node("Gather", [step, step], "next")
        return to_bool(editor, reached)

    def _any_in_word(self, word: str, flags: str) -> str:
        """Mark the positions whose word has a flag at any position."""
        editor = self._editor
        values = to_int(editor, flags)
        none = editor.add_node("Mul", [values, self._number(0)], "none")
        by_word = editor.add_node("ScatterElements", [none, word, values], "found", reduction="max")
        return to_bool(editor, editor.add_node("Gather", [by_word, word], "of_word"))

    def _too_long(self, word: str) -> str:
        """Mark the positions whose word exceeds the tokenizer's maximum length."""
        editor = self._editor
        values = to_int(editor, self._in_word)
        none = editor.add_node("Mul", [values, self._number(0)], "none")
        count = editor.add_node("ScatterElements", [none, word, values], "characters", reduction="add")
        count = editor.add_node("Gather", [count, word], "of_word")
        return editor.add_node("Greater", [count, self._number(self._tokenizer.max_word_length)], "too_long")

    def _positions(self) -> str:
        """Add 0, 1, 2, ... up to the number of characters."""
        editor = self._editor
        size = editor.add_node("Size", [self._characters], "size")
        return editor.add_node("Range", [self._number(0), size, self._number(1)], "places")

    def _number(self, value: int) -> str:
        return self._editor.add_constant(np.int64(value), "number")
