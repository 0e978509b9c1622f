"""Texts to token ids: the one place that knows the `tokenizers` library.

The library's own padding and truncation stay off, always: its settings are shared by all threads, and it truncates only
after it has tokenised a whole text (1 MB: 0.8 s). Here a text's characters are bounded first, special tokens are added
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

# The library would spread every call over a pool of its own, one thread a core of the machine, which `threads` does not
# bound and which fights the session's threads. Off, it tokenises on the thread that calls, without the interpreter's
# lock, and the classifier calls it from its own threads. It reads this at every call; what the user has set stays.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Policy = Literal["window", "truncate", "error"]
POLICIES: tuple[str, ...] = get_args(Policy)

CHARACTERS_PER_TOKEN = 16
"""A text is read up to this many characters for each token that can be used; the rest is reported as truncated. English
and German run at 4 to 5. The tokens that are kept are those of the whole text (test_tokenizer.py, for
WordPiece, byte-level BPE and Unigram); only where no blank is near the cut may the last word read otherwise."""

FIRST_CHARACTERS_PER_TOKEN = 6
"""As many are read first; that the rest is read, too, is rare, since it takes a text of longer words than most have."""

BYTES_PER_CHARACTER = 2
"""Of a text that has more of them, in UTF-8, fewer characters are read: the library takes memory by bytes, and scripts
with three and four bytes a character have few characters a token."""

WORD = 200
"""Characters of a word at most, to look back for a blank where a text is cut, and so tokens that a cut may change."""


@dataclass(frozen=True)
class LongText:
    """What happens to a text of more than `max_length` tokens.

    Attributes:
        policy: `"window"` scores overlapping windows and takes each label's maximum, `"truncate"` keeps the beginning,
            `"error"` refuses the text.
        overlap: Tokens that neighbouring windows share at least.
        max_windows: A text that needs more windows is truncated after this many.
    """

    policy: Policy = "window"
    overlap: int = 32
    max_windows: int = 32


@dataclass(frozen=True)
class Encoding:
    """One text as the model reads it.

    Attributes:
        windows: Token ids with special tokens, each of shape `(n,)`, int64, `n <= max_length`; at least one.
        n_tokens: Tokens of the whole text, special ones included; where `truncated`, of the part that was read.
        truncated: Whether some of the text is in no window.
    """

    windows: tuple[NDArray[np.int64], ...]
    n_tokens: int
    truncated: bool


Outcome = Encoding | ManylabelError
"""What becomes of a text: it is read, or there is a reason why not."""


class Tokenizer:
    """A `tokenizer.json` with the special tokens around a text and a policy for long ones. Safe to use from threads.

    Args:
        serialized: The bytes of a `tokenizer.json`.
        prefix: Ids before every window, such as `[CLS]`.
        suffix: Ids after every window, such as `[SEP]`.
        max_length: Tokens the model reads at once, special ones included.
        long_text: What happens beyond `max_length`.

    Raises:
        BundleError: It is no tokenizer, or the numbers leave no room for a text.
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
        """Tokens of one text that are read at most, special ones left out."""
        if self.long_text.policy == "window":
            return self._room + (self.long_text.max_windows - 1) * self._stride
        return self._room

    def encode(self, texts: str | Iterable[str], *, first_row: int = 0) -> list[Encoding]:
        """Turn texts into windows of token ids.

        Lone surrogates, which no UTF-8 text holds, are read as U+FFFD.

        Args:
            texts: One text or several. One text gives one encoding.
            first_row: The number by which an error calls the first text.

        Returns:
            An encoding for each text, in order.

        Raises:
            InvalidText: A text is not a string.
            TextTooLong: A text exceeds `max_length` tokens under the policy `"error"`.
        """
        outcomes = self.try_encode(as_texts(texts), first_row=first_row)
        for outcome in outcomes:
            if not isinstance(outcome, Encoding):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Encoding)]

    def try_encode(self, texts: Sequence[object], *, first_row: int = 0) -> list[Outcome]:
        """As `encode`, with the error in the place of a text that has one: its neighbours are encoded all the same.

        Args:
            texts: What should be texts.
            first_row: The number by which an error calls the first text.

        Returns:
            For each text its encoding, or why there is none, in order.
        """
        bounded = [self._bound(text, row) for row, text in zip(count(first_row), texts, strict=False)]
        found = iter(self._needed_ids([each[0] for each in bounded if isinstance(each, tuple)]))
        return [
            self._windows(next(found), row, unread=each[1]) if isinstance(each, tuple) else each
            for row, each in zip(count(first_row), bounded, strict=False)
        ]

    def reads_all(self, text: str) -> bool:
        """Whether a text is short enough to be read to its end, before its tokens are counted."""
        return len(text) <= self._most_characters(text, CHARACTERS_PER_TOKEN)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each of a text's windows begins and ends in it: offsets in characters, the end exclusive.

        Args:
            text: One that `encode` takes.

        Returns:
            A span for each window of the text's encoding, in order. A text without tokens has the one span `(0, 0)`.

        Raises:
            InvalidText: It is not a string, or too long under the policy `"error"`.
            BundleError: The library refuses it.
        """
        return [
            (min((begin for begin, _ in window), default=0), max((end for _, end in window), default=0))
            for window in self.token_spans(text)
        ]

    def token_spans(self, text: str) -> list[list[tuple[int, int]]]:
        """Where each token of each of a text's windows lies in it: offsets in characters, the end exclusive.

        Costs about what `encode` does, as the library finds offsets only when it is asked for them.

        Args:
            text: One that `encode` takes.

        Returns:
            For each window of the text's encoding, in order, a span for each of its tokens, special ones left out.

        Raises:
            InvalidText: It is not a string, or too long under the policy `"error"`.
            BundleError: The library refuses it.
        """
        bounded = self._bound(text, 0)
        if isinstance(bounded, InvalidText):
            raise bounded
        try:
            offsets = self._tokenizer.encode(bounded[0], add_special_tokens=False).offsets[: self.max_tokens]
        except Exception as exc:  # as in `_ids`
            raise BundleError(f"tokenizer.json cannot tokenise: {exc}. Export the checkpoint anew.") from exc
        return [offsets[start : start + self._room] for start in self._starts(len(offsets))]

    def _needed_ids(self, texts: list[str]) -> list[list[int] | BundleError]:
        """Token ids of each text, or of a beginning where that has all that is kept, whatever follows it."""
        if self.long_text.policy == "error":  # whose message counts the tokens
            return self._ids(texts)
        limits = [self._most_characters(text, FIRST_CHARACTERS_PER_TOKEN) for text in texts]
        pairs = list(zip(texts, limits, strict=True))
        found = self._ids([text if len(text) <= limit else _cut_between_words(text, limit) for text, limit in pairs])
        short = [
            place
            for place, ((text, limit), ids) in enumerate(zip(pairs, found, strict=True))
            if len(text) > limit and (isinstance(ids, BundleError) or len(ids) < self.max_tokens + WORD)
        ]
        for place, ids in zip(short, self._ids([texts[place] for place in short]), strict=True):
            found[place] = ids
        return found

    def _most_characters(self, text: str, per_token: int) -> int:
        """How many characters of a text are read at most, for so many that a token may have."""
        limit = self.max_tokens * per_token
        if text.isascii() or 4 * len(text) <= BYTES_PER_CHARACTER * limit:
            return limit
        encoded = text[:limit].encode("utf-8", "replace")
        return len(encoded[: BYTES_PER_CHARACTER * limit].decode("utf-8", "ignore"))

    def _ids(self, texts: list[str]) -> list[list[int] | BundleError]:
        """Token ids of each text. Where the library refuses the lot, one text after the other is asked for."""
        try:
            return [one.ids for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except MemoryError:  # the machine's fault, and not the tokenizer's
            raise
        except Exception as exc:  # the library raises bare Exception, such as for a vocabulary without [UNK]
            if len(texts) > 1:
                return [ids for text in texts for ids in self._ids([text])]
            return [BundleError(f"tokenizer.json cannot tokenise: {exc}. Export the checkpoint anew.")]

    def _bound(self, text: object, row: int) -> tuple[str, bool] | InvalidText:
        """The part of a text that is tokenised, and whether something was cut off."""
        if not isinstance(text, str):
            return _no_string(text, row)
        limit = self._most_characters(text, CHARACTERS_PER_TOKEN)
        if len(text) <= limit:
            return valid_unicode(text), False
        if self.long_text.policy == "error":
            return TextTooLong(
                f"text {row} has {len(text):,} characters; for {self.max_length} tokens at most {limit:,} are read. "
                'Shorten it, or export with the long-text policy "window" or "truncate".'
            )
        return valid_unicode(_cut_between_words(text, limit)), True

    def _windows(self, ids: list[int] | BundleError, row: int, *, unread: bool) -> Outcome:
        if isinstance(ids, BundleError):
            return ids
        n_tokens = len(ids) + self._n_special
        if len(ids) > self._room and self.long_text.policy == "error":
            return TextTooLong(
                f"text {row} has {n_tokens} tokens, and this model reads {self.max_length}. "
                'Shorten it, or export with the long-text policy "window" or "truncate".'
            )
        kept = ids[: self.max_tokens]
        windows = tuple(
            np.array([*self._prefix, *kept[start : start + self._room], *self._suffix], dtype=np.int64)
            for start in self._starts(len(kept))
        )
        return Encoding(windows, n_tokens=n_tokens, truncated=unread or len(kept) < len(ids))

    def _starts(self, n: int) -> list[int]:
        """Where windows over `n` tokens start. The last is moved back to end with the text, so that all are full."""
        if n <= self._room:
            return [0]
        return [*range(0, n - self._room, self._stride), n - self._room]

    def _check_room(self) -> None:
        overlap, max_windows = self.long_text.overlap, self.long_text.max_windows
        if not self._n_special:
            raise BundleError(
                "there are no special tokens, so an empty text has no token at all; that is not supported."
            )
        if self._room < 1 or self._stride < 1:
            raise BundleError(
                f"max_length {self.max_length} leaves {self._room} tokens a window, which an overlap of {overlap} uses "
                "up. Take a smaller overlap or a greater max_length."
            )
        if overlap < 0 or max_windows < 1:
            raise BundleError(
                f"long texts have an overlap of {overlap} and {max_windows} windows; expected 0 or more, and 1 or more."
            )


def as_texts(texts: str | Iterable[str]) -> Sequence[str]:
    """A list of texts from one text or several, each checked to be a string.

    Raises:
        InvalidText: A text is not a string, or the texts have no order or no single column.
    """
    if isinstance(texts, str):
        return [texts]
    unordered = isinstance(texts, bytes | Mapping | set | frozenset)
    if unordered or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) != 1:  # a table iterates over its head
        raise InvalidText(f"texts are {type(texts).__name__}; pass a string or a sequence of strings.")
    several = list(texts)
    for row, text in enumerate(several):
        if not isinstance(text, str):
            raise _no_string(text, row)
    return several


def _no_string(text: object, row: int) -> InvalidText:
    return InvalidText(
        f"text {row} is {type(text).__name__} ({str(text)[:40]!r}), not a string. "
        "A text is one string; a missing text has to be left out or passed as ''."
    )


def _read(serialized: bytes) -> Any:
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(serialized)
    except Exception as exc:  # the library raises bare Exception for every fault of a file
        raise BundleError(
            f"tokenizer.json is not a tokenizer that tokenizers {tokenizers.__version__} reads: {exc}"
        ) from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _special_ids(ids: Sequence[int]) -> list[int]:
    if any(not 0 <= token < 2**31 for token in ids):
        raise BundleError(f"special tokens {list(ids)} are no token ids; expected 0 or more.")
    return list(ids)


def _cut_between_words(text: str, limit: int) -> str:
    """The first `limit` characters at most, less a word that the cut would split and the blanks before it."""
    blank = max(text.rfind(mark, max(0, limit - WORD), limit) for mark in (" ", "\n", "\t"))
    return text[: blank if blank > 0 else limit].rstrip()
