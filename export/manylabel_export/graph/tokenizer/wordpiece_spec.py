"""What a `tokenizer.json` of BERT's kind says, as far as a graph can hold it; the rest is refused."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from manylabel.errors import ExportError
from manylabel_export.graph.tokenizer.char_table import Characters, characters_of

WITHIN = "##"
BLANK = " "
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
