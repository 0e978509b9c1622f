"""What a `tokenizer.json` of BERT specifies, as far as a graph can reproduce it; everything else is refused."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from manylabel.errors import ExportError
from manylabel_export.graph.tokenizer.char_table import CharacterTable, build_character_table

CONTINUATION = "##"
BLANK = " "
PRIVATE_USE = range(0xF0000, 0xF1000)  # BERT removes these characters, so one can stand for a special token
REFUSAL = (
    "--single-file supports BERT's WordPiece tokenizer only. Leave --single-file out; the bundle works without it."
)


@dataclass(frozen=True)
class WordPieceSpec:
    """The content of a `tokenizer.json` with a WordPiece model.

    Attributes:
        characters: What each character becomes before the look-up.
        pieces: The ids of pieces by length; the prefix `##` of pieces within a word does not count.
        special_tokens: The special tokens that are recognised inside a text, with their ids.
        unknown: The id of an unknown word.
        max_word_length: A word of more characters is unknown.
    """

    characters: CharacterTable
    pieces: dict[int, dict[str, int]]
    special_tokens: dict[str, int]
    unknown: int
    max_word_length: int

    @classmethod
    def from_json(cls, serialized: str) -> WordPieceSpec:
        """Read a `tokenizer.json`.

        Raises:
            ExportError: The tokenizer is of another type, or has a setting that the graph does not reproduce.
        """
        content = json.loads(serialized)
        model = content["model"]
        types = [model["type"], *((content[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer"))]
        is_bert = types == ["WordPiece", "BertNormalizer", "BertPreTokenizer"]
        if not is_bert or model["continuing_subword_prefix"] != CONTINUATION:
            raise ExportError(f"this tokenizer consists of {', '.join(map(str, types))}. {REFUSAL}")
        if not content["normalizer"]["clean_text"]:
            raise ExportError(f"this tokenizer does not clean texts (clean_text is false). {REFUSAL}")
        special_tokens = {token["content"]: token["id"] for token in map(_require_simple, content["added_tokens"])}
        pieces: dict[int, dict[str, int]] = defaultdict(dict)
        for piece, piece_id in model["vocab"].items():
            if (length := len(piece.removeprefix(CONTINUATION))) and BLANK not in piece:
                pieces[length][piece] = piece_id
        return cls(
            build_character_table(Tokenizer.from_str(serialized)),
            dict(sorted(pieces.items())),
            special_tokens,
            model["vocab"][model["unk_token"]],
            model["max_input_chars_per_word"],
        )

    @property
    def placeholders(self) -> dict[str, str]:
        """A private-use character for each special token."""
        return {token: chr(PRIVATE_USE[index]) for index, token in enumerate(self.special_tokens)}


def _require_simple(token: dict[str, Any]) -> dict[str, Any]:
    """Raise unless an added token is matched by its characters alone and never overlaps another one or itself."""
    content = token["content"]
    is_bracketed = len(content) > 2 and content[0] == "[" and content[-1] == "]" and not {"[", "]"} & set(content[1:-1])
    if not is_bracketed or any(token[flag] for flag in ("single_word", "lstrip", "rstrip", "normalized")):
        raise ExportError(f"the added token {content!r} is not of the form [NAME], or has matching options. {REFUSAL}")
    return token
