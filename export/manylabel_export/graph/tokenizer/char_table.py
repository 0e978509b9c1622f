"""What a tokenizer makes of each character before it looks for pieces: found by asking it about all of Unicode.

BERT's normaliser and splitter treat every character by itself, so that a table says all. (Canonical order, which they
restore, concerns marks that they remove.) Most of Unicode is handled by two classes in place of a million entries.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

SURROGATES = range(0xD800, 0xE000)
BETWEEN = "\u2603"  # a snowman: stays as it is, and nothing becomes one
BLOCK = 4096


@dataclass(frozen=True)
class Characters:
    """What becomes of every character. A blank stands between words; what is not named here stays as it is.

    Attributes:
        changed: Characters and what they become.
        removed: Those that vanish, as a class of RE2.
        alone: Those that become a word of their own, likewise.
    """

    changed: dict[str, str]
    removed: str
    alone: str


def characters_of(tokenizer: Tokenizer) -> Characters:
    """Ask a tokenizer about every character.

    Args:
        tokenizer: One with a `BertNormalizer` and a `BertPreTokenizer`.
    """
    changed, removed, alone = {}, [], []
    for character, found in _all(tokenizer):
        if not found:
            removed.append(character)
        elif found.replace("  ", " ") == f" {character} ":
            alone.append(character)
        elif found != character:
            changed[character] = found
    return Characters(changed, _class(removed), _class(alone))


def _all(tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """Every character and what becomes of it; asked in blocks, as a million calls take seconds."""
    for start in range(0, sys.maxunicode + 1, BLOCK):
        block = [chr(code) for code in range(start, start + BLOCK) if code not in SURROGATES and chr(code) != BETWEEN]
        plain = tokenizer.normalizer.normalize_str(BETWEEN.join(block)).split(BETWEEN)
        forms = _placed(tokenizer.pre_tokenizer, sorted(set("".join(plain))))
        for character, found in zip(block, plain, strict=bool(block)):  # "" splits to one where there is none
            yield character, "".join(map(forms.__getitem__, found))


def _placed(splitter: Any, characters: Sequence[str]) -> dict[str, str]:
    """What becomes of normalised characters between two letters: a blank, a word of its own, or itself."""
    text = "a" + "".join(f"{character}a" for character in characters)
    forms = dict.fromkeys(characters, " ")
    for _, (begin, end) in splitter.pre_tokenize_str(text):
        for character in text[begin | 1 : end : 2]:
            forms[character] = character if end - begin > 1 else f" {character} "
    return forms


def _class(characters: Sequence[str]) -> str:
    """Ascending characters as ranges between brackets."""
    ranges: list[list[int]] = []
    for code in map(ord, characters):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges) + "]"
