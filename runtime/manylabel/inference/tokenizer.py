"""Texts to token ids: the one module that imports the `tokenizers` library.

The library's own padding and truncation are always off: its settings are shared by all threads, and it truncates only
after it has tokenized a whole text (1 MB: 0.8 s). Here a text's characters are bounded first, special tokens are added
by us, and a long text is cut into windows of exactly `max_length` tokens.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, get_args

import numpy as np
import tokenizers
from numpy.typing import NDArray

from manylabel.errors import BundleError, InvalidText, ManylabelError, TextTooLong
from manylabel.system.unicode import valid_unicode

# The library would spread every call over a pool of its own, one thread per core of the machine, which `threads` does
# not bound and which competes with the session's threads. Off, it tokenizes on the calling thread without holding the
# GIL, and the classifier calls it from its own threads. It reads this at every call; a value set by the user stays.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Policy = Literal["window", "truncate", "error"]
POLICIES: tuple[str, ...] = get_args(Policy)

MAX_CHARACTERS_PER_TOKEN = 16
"""A text is read up to this many characters for each token that can be used; the rest is reported as truncated. English
and German have 4 to 5. The tokens that are kept are those of the whole text (test_tokenizer.py checks it for WordPiece,
byte-level BPE and Unigram); only if there is no blank near the cut may the last word be tokenized differently."""

FIRST_CHARACTERS_PER_TOKEN = 6
"""This many are read first. Only a text whose words are longer than usual needs the rest, too."""

BYTES_PER_CHARACTER = 2
"""If a text has more bytes per character in UTF-8, fewer characters are read: the library's memory grows with bytes,
and scripts with three or four bytes per character have few characters per token."""

MAX_WORD = 200
"""How far to look back for a blank where a text is cut, in characters, and so how many tokens a cut may change."""


@dataclass(frozen=True)
class LongText:
    """What happens to a text of more than `max_length` tokens.

    Attributes:
        policy: `"window"` scores overlapping windows and takes each label's maximum, `"truncate"` keeps the beginning,
            `"error"` rejects the text.
        overlap: The number of tokens that consecutive windows share at least.
        max_windows: A text that needs more windows is truncated after this many.

    Example:
        >>> LongText("truncate").policy
        'truncate'
    """

    policy: Policy = "window"
    overlap: int = 32
    max_windows: int = 32


@dataclass(frozen=True)
class Encoding:
    """One text as the model reads it.

    Attributes:
        windows: Token ids with special tokens, each of shape `(n,)`, int64, `n <= max_length`; at least one.
        n_tokens: The number of tokens of the whole text, special tokens included; if `truncated`, of the part that was
            read.
        truncated: Whether part of the text is in no window.

    Example:
        >>> from manylabel import Classifier
        >>> (encoding,) = Classifier.load("bundle").encode("late")
        >>> len(encoding.windows), encoding.truncated
        (1, False)
    """

    windows: tuple[NDArray[np.int64], ...]
    n_tokens: int
    truncated: bool


EncodingResult = Encoding | ManylabelError
"""A text's encoding, or the error that there is instead."""


class Tokenizer:
    """A `tokenizer.json` with the special tokens around a text and a policy for long texts. Thread-safe.

    Args:
        serialized: The content of a `tokenizer.json`.
        prefix: Ids before every window, such as `[CLS]`.
        suffix: Ids after every window, such as `[SEP]`.
        max_length: The number of tokens the model reads at once, special tokens included.
        long_text: What happens to a text of more than `max_length` tokens.

    Raises:
        BundleError: The content is not a tokenizer, or the numbers leave no room for a text.

    Example:
        >>> from pathlib import Path
        >>> content = Path("bundle/tokenizer.json").read_bytes()
        >>> tokenizer = Tokenizer(content, prefix=[2], suffix=[3], max_length=64, long_text=LongText())
        >>> [window.tolist() for window in tokenizer.encode("")[0].windows]
        [[2, 3]]
    """

    def __init__(
        self,
        serialized: bytes,
        *,
        prefix: Sequence[int],
        suffix: Sequence[int],
        max_length: int,
        long_text: LongText,
    ) -> None:
        self._tokenizer = _read(serialized)
        self._prefix = _special_ids(prefix)
        self._suffix = _special_ids(suffix)
        self._n_special = len(prefix) + len(suffix)
        self._room = max_length - self._n_special
        self._stride = self._room - long_text.overlap
        self.max_length = max_length
        self.long_text = long_text
        self._check_room()

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are read at most, special tokens not counted."""
        if self.long_text.policy == "window":
            return self._room + (self.long_text.max_windows - 1) * self._stride
        return self._room

    def encode(self, texts: str | Iterable[str], *, first_row: int = 0) -> list[Encoding]:
        """Return texts as windows of token ids.

        Lone surrogates, which UTF-8 cannot encode, are read as U+FFFD.

        Args:
            texts: One text or several. One text gives one encoding.
            first_row: The number of the first text in error messages.

        Returns:
            An encoding for each text, in order.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
        """
        results = self.try_encode(as_texts(texts), first_row=first_row)
        for result in results:
            if not isinstance(result, Encoding):
                raise result
        return [result for result in results if isinstance(result, Encoding)]

    def try_encode(self, texts: Sequence[object], first_row: int = 0) -> list[EncodingResult]:
        """Return texts as windows of token ids, with an error in place of a text that cannot be encoded.

        Args:
            texts: The texts.
            first_row: The number of the first text in error messages.

        Returns:
            The encoding or the error of each text, in order.
        """
        bounded = [self._bound(text, row) for row, text in zip(count(first_row), texts, strict=False)]
        found = iter(self._needed_ids([each[0] for each in bounded if isinstance(each, tuple)]))
        return [
            self._windows(next(found), row, unread=each[1]) if isinstance(each, tuple) else each
            for row, each in zip(count(first_row), bounded, strict=False)
        ]

    def reads_all(self, text: str) -> bool:
        """Return whether a text is short enough to be read to its end, before its tokens are counted."""
        return len(text) <= self._most_characters(text, MAX_CHARACTERS_PER_TOKEN)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return which part of a text each of its windows covers: start and end in characters, the end exclusive.

        Args:
            text: One text.

        Returns:
            A span for each window of the text's encoding, in order. A text without tokens has the one span `(0, 0)`.

        Raises:
            InvalidText: The text is not a string, or too long under the policy `"error"`.
            BundleError: The library cannot tokenize the text.
        """
        return [
            (min((begin for begin, _ in window), default=0), max((end for _, end in window), default=0))
            for window in self.token_spans(text)
        ]

    def token_spans(self, text: str) -> list[list[tuple[int, int]]]:
        """Return which part of a text each token covers: start and end in characters, the end exclusive.

        Takes about as long as `encode`, because the library computes offsets only on request.

        Args:
            text: One text.

        Returns:
            For each window of the text's encoding, in order, a span for each of its tokens except the special ones.

        Raises:
            InvalidText: The text is not a string, or too long under the policy `"error"`.
            BundleError: The library cannot tokenize the text.
        """
        bounded = self._bound(text, 0)
        if isinstance(bounded, InvalidText):
            raise bounded
        try:
            offsets = self._tokenizer.encode(bounded[0], add_special_tokens=False).offsets[: self.max_tokens]
        except Exception as exc:  # as in `_ids`
            raise BundleError(f"tokenizer.json cannot tokenize the text: {exc}. Export the checkpoint again.") from exc
        return [offsets[start : start + self._room] for start in self._starts(len(offsets))]

    def _needed_ids(self, texts: list[str]) -> list[list[int] | BundleError]:
        """Return the token ids of each text, or of a beginning that already contains all tokens that are kept."""
        if self.long_text.policy == "error":  # its message has the number of tokens
            return self._ids(texts)
        limits = [self._most_characters(text, FIRST_CHARACTERS_PER_TOKEN) for text in texts]
        pairs = list(zip(texts, limits, strict=True))
        found = self._ids([text if len(text) <= limit else _cut_between_words(text, limit) for text, limit in pairs])
        short = [
            place
            for place, ((text, limit), ids) in enumerate(zip(pairs, found, strict=True))
            if len(text) > limit and (isinstance(ids, BundleError) or len(ids) < self.max_tokens + MAX_WORD)
        ]
        for place, ids in zip(short, self._ids([texts[place] for place in short]), strict=True):
            found[place] = ids
        return found

    def _most_characters(self, text: str, per_token: int) -> int:
        """Return how many characters of a text are read at most, at `per_token` characters per token."""
        limit = self.max_tokens * per_token
        if text.isascii() or 4 * len(text) <= BYTES_PER_CHARACTER * limit:
            return limit
        encoded = text[:limit].encode("utf-8", "replace")
        return len(encoded[: BYTES_PER_CHARACTER * limit].decode("utf-8", "ignore"))

    def _ids(self, texts: list[str]) -> list[list[int] | BundleError]:
        """Return the token ids of each text. If the library rejects the batch, the texts are tokenized one by one."""
        try:
            return [one.ids for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except MemoryError:  # not the tokenizer's fault
            raise
        except Exception as exc:  # the library raises bare Exception, for example without [UNK] in the vocabulary
            if len(texts) > 1:
                return [ids for text in texts for ids in self._ids([text])]
            return [BundleError(f"tokenizer.json cannot tokenize the text: {exc}. Export the checkpoint again.")]

    def _bound(self, text: object, row: int) -> tuple[str, bool] | InvalidText:
        """Return the part of a text that is tokenized, and whether something was cut off."""
        if not isinstance(text, str):
            return _not_a_string(text, row)
        limit = self._most_characters(text, MAX_CHARACTERS_PER_TOKEN)
        if len(text) <= limit:
            return valid_unicode(text), False
        if self.long_text.policy == "error":
            return TextTooLong(
                f"text {row} has {len(text):,} characters; at most {limit:,} are read for {self.max_length} tokens. "
                'Shorten it, or export with the long-text policy "window" or "truncate".'
            )
        return valid_unicode(_cut_between_words(text, limit)), True

    def _windows(self, ids: list[int] | BundleError, row: int, *, unread: bool) -> EncodingResult:
        if isinstance(ids, BundleError):
            return ids
        n_tokens = len(ids) + self._n_special
        if len(ids) > self._room and self.long_text.policy == "error":
            return TextTooLong(
                f"text {row} has {n_tokens} tokens; this model reads {self.max_length}. "
                'Shorten it, or export with the long-text policy "window" or "truncate".'
            )
        kept = ids[: self.max_tokens]
        windows = tuple(
            np.array([*self._prefix, *kept[start : start + self._room], *self._suffix], dtype=np.int64)
            for start in self._starts(len(kept))
        )
        return Encoding(windows, n_tokens=n_tokens, truncated=unread or len(kept) < len(ids))

    def _starts(self, n: int) -> list[int]:
        """Return where windows over `n` tokens start. The last one ends with the text, so that all are full."""
        if n <= self._room:
            return [0]
        return [*range(0, n - self._room, self._stride), n - self._room]

    def _check_room(self) -> None:
        overlap, max_windows = self.long_text.overlap, self.long_text.max_windows
        if not self._n_special:
            raise BundleError(
                "there are no special tokens, so an empty text has no token at all; this is not supported."
            )
        if self._room < 1 or self._stride < 1:
            raise BundleError(
                f"max_length {self.max_length} leaves {self._room} tokens per window, which an overlap of {overlap} "
                "uses up. Choose a smaller overlap or a larger max_length."
            )
        if overlap < 0 or max_windows < 1:
            raise BundleError(
                f"long texts have an overlap of {overlap} and {max_windows} windows; expected 0 or more, and 1 or more."
            )


def as_texts(texts: str | Iterable[str]) -> Sequence[str]:
    """Return a list of texts from one text or several, after checking that each is a string.

    Raises:
        InvalidText: A text is not a string, or the texts have no order or more than one column.

    Example:
        >>> as_texts("late"), as_texts(("late", "rude"))
        (['late'], ['late', 'rude'])
    """
    if isinstance(texts, str):
        return [texts]
    unordered = isinstance(texts, bytes | Mapping | set | frozenset)
    if (
        unordered or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) != 1
    ):  # a table iterates over its column names
        raise InvalidText(f"texts are {type(texts).__name__}; pass a string or a sequence of strings.")
    several = list(texts)
    for row, text in enumerate(several):
        if not isinstance(text, str):
            raise _not_a_string(text, row)
    return several


def _not_a_string(text: object, row: int) -> InvalidText:
    return InvalidText(
        f"text {row} is {type(text).__name__} ({str(text)[:40]!r}), not a string. "
        "A text is one string; leave a missing text out, or pass ''."
    )


def _read(serialized: bytes) -> Any:
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(serialized)
    except Exception as exc:  # the library raises bare Exception for every defect of a file
        raise BundleError(
            f"tokenizer.json is not a tokenizer that tokenizers {tokenizers.__version__} can read: {exc}"
        ) from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _special_ids(ids: Sequence[int]) -> list[int]:
    if any(not 0 <= token < 2**31 for token in ids):
        raise BundleError(f"special tokens {list(ids)} are not token ids; expected 0 or more.")
    return list(ids)


def _cut_between_words(text: str, limit: int) -> str:
    """Return at most the first `limit` characters, without a word that the cut would split and the blanks before it."""
    blank = max(text.rfind(mark, max(0, limit - MAX_WORD), limit) for mark in (" ", "\n", "\t"))
    return text[: blank if blank > 0 else limit].rstrip()
