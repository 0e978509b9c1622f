"""The character table: the effect of a tokenizer's normaliser and pre-tokenizer on every Unicode character.

BERT's normaliser and pre-tokenizer treat each character independently, so a table describes them completely.
(Canonical ordering, which they restore, concerns marks that they remove.) Two regular-expression classes cover most of
Unicode, in place of a million entries.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

SURROGATES = range(0xD800, 0xE000)
SEPARATOR = "\u2603"  # a snowman: the normaliser leaves it unchanged, and turns nothing into one
BLOCK = 4096


@dataclass(frozen=True)
class CharacterTable:
    """What each character becomes; blanks separate words, and characters without an entry stay unchanged.

    Attributes:
        replaced: Characters and their replacements.
        removed: The removed characters, as an RE2 character class.
        isolated: The characters that become words of their own, as an RE2 character class.
    """

    replaced: dict[str, str]
    removed: str
    isolated: str


def build_character_table(tokenizer: Tokenizer) -> CharacterTable:
    """Apply a tokenizer to every character.

    Args:
        tokenizer: A tokenizer with a `BertNormalizer` and a `BertPreTokenizer`.

    Example:
        >>> from tokenizers import models, normalizers, pre_tokenizers
        >>> tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
        >>> tokenizer.normalizer = normalizers.BertNormalizer()
        >>> tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        >>> build_character_table(tokenizer).replaced["Ä"]
        'a'
    """
    replaced, removed, isolated = {}, [], []
    for character, result in _results(tokenizer):
        if not result:
            removed.append(character)
        elif result.replace("  ", " ") == f" {character} ":
            isolated.append(character)
        elif result != character:
            replaced[character] = result
    return CharacterTable(replaced, _character_class(removed), _character_class(isolated))


def _results(tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """Yield every character and what it becomes, block by block: a million calls would take seconds."""
    for start in range(0, sys.maxunicode + 1, BLOCK):
        codes = (code for code in range(start, start + BLOCK) if code not in SURROGATES)
        block = [chr(code) for code in codes if chr(code) != SEPARATOR]
        normalised = tokenizer.normalizer.normalize_str(SEPARATOR.join(block)).split(SEPARATOR)
        forms = _pre_tokenized_forms(tokenizer.pre_tokenizer, sorted(set("".join(normalised))))
        for character, result in zip(block, normalised, strict=bool(block)):  # "".split() of an empty block gives [""]
            yield character, "".join(map(forms.__getitem__, result))


def _pre_tokenized_forms(pre_tokenizer: Any, characters: Sequence[str]) -> dict[str, str]:
    """Return what normalised characters become between two letters: a blank, a word of their own, or themselves."""
    text = "a" + "".join(f"{character}a" for character in characters)
    forms = dict.fromkeys(characters, " ")
    for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text):
        for character in text[begin | 1 : end : 2]:
            forms[character] = character if end - begin > 1 else f" {character} "
    return forms


def _character_class(characters: Sequence[str]) -> str:
    """Return ascending characters as an RE2 character class."""
    ranges: list[list[int]] = []
    for code in map(ord, characters):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges) + "]"
