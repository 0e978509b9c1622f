"""BERT's tokenizer in operators of ONNX Runtime: a text in, the ids of its pieces out.

Strings are compared as strings: no hashes, so that no text can be read for another. A text becomes an array of
characters; of every place the pieces that begin there are looked up, length by length; from each word's first
character one goes on by the longest, which is what WordPiece does. A word that cannot be read to its end is unknown.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from manylabel.errors import ExportError
from manylabel_export.graph.editor import CONTRIB, ML, Editor
from manylabel_export.text_graph.characters import Characters, characters_of

WITHIN = "##"
BLANK, PADDING, UNCHANGED = " ", "<padding>", "<unchanged>"  # the last two are longer than any character
PRIVATE = range(0xF0000, 0xF1000)  # BERT removes them from texts, so that one can stand for a special token
REFUSAL = "--single-file takes the tokenizers of BERT and its kin. Leave it out; the bundle itself needs no such thing."


@dataclass(frozen=True)
class WordPiece:
    """What a `tokenizer.json` of BERT's kind says.

    Attributes:
        characters: What becomes of each.
        pieces: Ids of pieces by their length; those within a word begin with `##`, which does not count.
        specials: Special tokens that are read as such where a text spells them, with their ids.
        unknown: The id of an unknown word.
        longest: A word of more characters is unknown.
    """

    characters: Characters
    pieces: dict[int, dict[str, int]]
    specials: dict[str, int]
    unknown: int
    longest: int

    @classmethod
    def read(cls, serialized: str) -> WordPiece:
        """Read a `tokenizer.json`.

        Raises:
            ExportError: It is of another kind, or has a setting that has not been shown to be reproduced.
        """
        content = json.loads(serialized)
        model = content["model"]
        kinds = [model["type"], *((content[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer"))]
        if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer"] or model["continuing_subword_prefix"] != WITHIN:
            raise ExportError(f"this tokenizer is made of {', '.join(map(str, kinds))}. {REFUSAL}")
        if not content["normalizer"]["clean_text"]:
            raise ExportError(f"this tokenizer does not clean texts (clean_text is off). {REFUSAL}")
        specials = {token["content"]: token["id"] for token in map(_checked, content["added_tokens"])}
        pieces: dict[int, dict[str, int]] = defaultdict(dict)
        for piece, at in model["vocab"].items():
            if (length := len(piece.removeprefix(WITHIN))) and BLANK not in piece:
                pieces[length][piece] = at
        return cls(
            characters_of(Tokenizer.from_str(serialized)),
            dict(sorted(pieces.items())),
            specials,
            model["vocab"][model["unk_token"]],
            model["max_input_chars_per_word"],
        )

    @property
    def marks(self) -> dict[str, str]:
        """A private character for each special token."""
        return {content: chr(PRIVATE[at]) for at, content in enumerate(self.specials)}


def _checked(token: dict[str, Any]) -> dict[str, Any]:
    """An added token that is found by its characters alone, and never overlaps another or itself."""
    content = token["content"]
    bracketed = len(content) > 2 and content[0] == "[" and content[-1] == "]" and not {"[", "]"} & set(content[1:-1])
    if not bracketed or any(token[flag] for flag in ("single_word", "lstrip", "rstrip", "normalized")):
        raise ExportError(
            f"the added token {content!r} is not of the form [NAME] or is matched in a special way. {REFUSAL}"
        )
    return token


def add_tokenizer(editor: Editor, text: str, tokenizer: WordPiece) -> str:
    """Adds what reads `text`, string `(1,)`; gives the name of its ids, int64 `(n,)`, without special tokens."""
    return _Pieces(editor, tokenizer, _characters(editor, text, tokenizer)).ids()


def _characters(editor: Editor, text: str, tokenizer: WordPiece) -> str:
    """A text's characters as the model reads them, string `(n,)`, with blanks between words."""
    text = editor.add("StringConcat", [text, _string(editor, BLANK)], "text_and_blank")  # so that it is never empty
    raw = _split(editor, text)
    whole, start = _specials(editor, raw, tokenizer)
    table = tokenizer.characters
    marked = editor.add("StringConcat", [raw, _string(editor, BLANK)], "followed")
    cases = [(_matches(editor, raw, table.removed), _string(editor, ""))]
    cases += [
        (_matches(editor, raw, table.alone), editor.add("StringConcat", [_string(editor, BLANK), marked], "alone"))
    ]
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
    found = editor.add("Where", [_equal(editor, found, UNCHANGED), raw, found], "placed")
    for condition, value in cases:
        found = editor.add("Where", [condition, value, found], "placed")
    return _split(editor, found)


def _specials(editor: Editor, raw: str, tokenizer: WordPiece) -> tuple[str, str]:
    """Where a special token is spelled, bool `(n,)`; and its mark at the beginning, "" elsewhere, string `(n,)`."""
    marks, longest = tokenizer.marks, max(map(len, tokenizer.specials), default=1)
    padded = _join(editor, [raw, _strings(editor, [BLANK] * longest)])
    covered, start = editor.add_constant(np.array([False]), "none"), _string(editor, "")
    spelled = raw
    for length in range(2, longest + 1):
        spelled = editor.add("StringConcat", [spelled, _shifted(editor, padded, length - 1, longest)], "spelled")
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
            begins = editor.add("Not", [_equal(editor, mark, "")], "begins")
            start = editor.add("Where", [begins, mark, start], "special")
            covered = editor.add("Or", [covered, _extended(editor, begins, length)], "covered")
    return covered, start


def _extended(editor: Editor, begins: str, length: int) -> str:
    """The places that follow within `length`, too; bool `(n,)`."""
    axes = editor.add_constant(np.array([0, 1], np.int64), "axes")
    values = editor.add("Unsqueeze", [editor.add("Cast", [begins], "cast", to=1), axes], "values")
    pooled = editor.add("MaxPool", [values], "extended", kernel_shape=[length], pads=[length - 1, 0])
    return editor.add("Cast", [editor.add("Squeeze", [pooled, axes], "flat")], "within", to=9)


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
        ends = _strings(editor, [BLANK])
        self._padded = _join(editor, [ends, characters, ends, _strings(editor, [BLANK] * self._reach)])
        self._here = _shifted(editor, self._padded, 0, self._reach)
        self._inside = editor.add("Not", [_equal(editor, self._here, BLANK)], "inside")

    def ids(self) -> str:
        """The ids of all words' pieces in order, int64 `(m,)`."""
        add, editor = self._editor.add, self._editor
        first = self._first()
        found, length = self._longest(first)
        step = add("Add", [self._places(), length], "next")
        reached = add("And", [self._reached(first, step), self._inside], "reached")
        word = add("Sub", [add("CumSum", [_int(editor, first), self._number(0)], "words"), self._number(1)], "word")
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
        before = _join(
            editor, [editor.add_constant(np.array([False]), "no"), editor.add("Slice", [outside, zero, last], "before")]
        )
        return editor.add("And", [self._inside, before], "first")

    def _longest(self, first: str) -> tuple[str, str]:
        """Of every place, the longest piece that begins there: its id and its length, 0 where there is none."""
        editor = self._editor
        within = editor.add("StringConcat", [_string(editor, WITHIN), self._here], "within")
        spelled = editor.add("Where", [first, self._here, within], "spelled")
        found, best = self._number(-1), self._number(0)
        for length in range(1, self._reach + 1):
            if length > 1:
                after = _shifted(editor, self._padded, length - 1, self._reach)
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
        reached = _int(editor, first)
        for _ in range(math.ceil(math.log2(self._tokenizer.longest + 1))):
            reached = editor.add("ScatterElements", [reached, step, reached], "reached", reduction="max")
            step = editor.add("Gather", [step, step], "next")
        return editor.add("Cast", [reached], "reached", to=9)

    def _any(self, word: str, places: str) -> str:
        """Of every place, whether its word has one of `places`."""
        editor = self._editor
        values = _int(editor, places)
        none = editor.add("Mul", [values, self._number(0)], "none")
        found = editor.add("ScatterElements", [none, word, values], "found", reduction="max")
        return editor.add("Cast", [editor.add("Gather", [found, word], "of_word")], "any", to=9)

    def _too_long(self, word: str) -> str:
        """Of every place, whether its word has more characters than are looked at."""
        editor = self._editor
        values = _int(editor, self._inside)
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


def _split(editor: Editor, strings: str) -> str:
    """The characters of all strings in order, string `(n,)`."""
    options: dict[str, Any] = {"mark": 0, "mincharnum": 1, "pad_value": PADDING, "separators": [""]}
    table = editor.add("Tokenizer", [strings], "split", domain=CONTRIB, **options)
    flat = editor.add("Reshape", [table, editor.add_constant(np.array([-1], np.int64), "flat")], "characters")
    kept = editor.add("Not", [_equal(editor, flat, PADDING)], "kept")
    return editor.add("Compress", [flat, kept], "characters", axis=0)


def _shifted(editor: Editor, padded: str, by: int, padding: int) -> str:
    """Of an array with `padding` places behind it: as long as the array, beginning `by` places later."""
    limits = [editor.add_constant(np.array([at], np.int64), "limit") for at in (by, by - padding)]
    return editor.add("Slice", [padded, *limits], "shifted")


def _join(editor: Editor, arrays: list[str]) -> str:
    return editor.add("Concat", arrays, "joined", axis=0)


def _matches(editor: Editor, strings: str, pattern: str) -> str:
    return editor.add("RegexFullMatch", [strings], "matches", pattern=pattern)


def _equal(editor: Editor, strings: str, value: str) -> str:
    return editor.add("Equal", [strings, _string(editor, value)], "equal")


def _int(editor: Editor, places: str) -> str:
    return editor.add("Cast", [places], "int", to=7)


def _string(editor: Editor, value: str) -> str:
    return _strings(editor, [value])


def _strings(editor: Editor, values: list[str]) -> str:
    return editor.add_constant(np.array(values), "strings")
