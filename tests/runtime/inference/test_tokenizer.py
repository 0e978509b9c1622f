"""Texts to token ids: every kind of text, every length, every policy."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tests.runtime.conftest import MakeTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from manylabel import BundleError, InvalidText, TextTooLong
from manylabel.inference.tokenizer import FIRST_CHARACTERS_PER_TOKEN, MAX_CHARACTERS_PER_TOKEN, Encoding, as_texts

CLS, SEP = 2, 3
POSITIONS = 3000


def numbers() -> bytes:
    """Return a tokenizer for which the text `"0 1 2"` has the tokens 0, 1, 2: each token is its position."""
    made = tokenizers.Tokenizer(models.WordLevel({str(n): n for n in range(POSITIONS)}, unk_token="0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return str(made.to_str()).encode()


def count_to(n: int) -> str:
    return " ".join(map(str, range(n)))


def inner(encoding: Encoding) -> list[list[int]]:
    """Return the ids of each window without the special tokens."""
    for window in encoding.windows:
        assert window.dtype == np.int64
        assert (window[0], window[-1]) == (CLS, SEP)
    return [window[1:-1].tolist() for window in encoding.windows]


def merged(encoding: Encoding) -> list[int]:
    """Return the tokens of all windows, once each, for the tokenizer of numbers."""
    return sorted({token for window in inner(encoding) for token in window})


# Short texts


def test_special_tokens_surround_a_text(tokenizer: MakeTokenizer) -> None:
    (encoding,) = tokenizer(numbers()).encode("7 8 9")
    assert [window.tolist() for window in encoding.windows] == [[CLS, 7, 8, 9, SEP]]
    assert (encoding.n_tokens, encoding.truncated) == (5, False)


@pytest.mark.parametrize("text", ["", " ", "\n\t  ", "\u00a0"])
def test_blank_text_has_special_tokens_only(tokenizer: MakeTokenizer, text: str) -> None:
    (encoding,) = tokenizer().encode(text)
    assert [window.tolist() for window in encoding.windows] == [[CLS, SEP]]
    assert (encoding.n_tokens, encoding.truncated) == (2, False)


def test_string_is_one_text(tokenizer: MakeTokenizer) -> None:
    assert len(tokenizer().encode("late")) == 1
    assert tokenizer().encode([]) == []


def test_lone_surrogate_is_replaced(tokenizer: MakeTokenizer) -> None:
    made = tokenizer()
    bad, good = made.encode(["late \ud800 parcel\udfff", "late \ufffd parcel\ufffd"])
    assert inner(bad) == inner(good)


def test_invalid_text_does_not_fail_others(tokenizer: MakeTokenizer) -> None:
    made = tokenizer()
    (alone,) = made.encode("late")
    assert inner(made.encode(["\udcff", "late", "a\0b"])[1]) == inner(alone)


@given(st.lists(st.text(alphabet=st.characters(), max_size=40), max_size=5))
def test_encoding_is_independent_of_the_batch(tokenizer: MakeTokenizer, texts: list[str]) -> None:
    made = tokenizer()
    together = made.encode(texts)
    assert [inner(encoding) for encoding in together] == [inner(made.encode(text)[0]) for text in texts]


# Invalid texts


@pytest.mark.parametrize("wrong", [None, 3, 2.5, b"bytes", ["nested"], float("nan"), {"a": 1}, np.str_])
@pytest.mark.parametrize("row", [0, 5, 4100])
def test_non_string_error_has_its_row(wrong: Any, row: int) -> None:
    with pytest.raises(InvalidText, match=rf"^text {row} is {type(wrong).__name__} "):
        as_texts(["late"] * row + [wrong, "late"])


@pytest.mark.parametrize(
    "wrong", [None, 3, b"bytes", {"late": 1}, {"late"}, np.array("late"), np.array([["late", "good"]])]
)
def test_non_sequence_is_rejected(wrong: Any) -> None:
    with pytest.raises(InvalidText, match=rf"texts are {type(wrong).__name__}; pass a string or a sequence"):
        as_texts(wrong)


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, lambda texts: (text for text in texts)])
def test_any_sequence_of_strings_is_accepted(make: Callable[[list[str]], Any]) -> None:
    assert list(as_texts(make(["late", "good"]))) == ["late", "good"]


# Long texts


def test_text_at_max_length_has_one_window(tokenizer: MakeTokenizer) -> None:
    fits, exceeds = tokenizer(numbers(), max_length=12).encode([count_to(10), count_to(11)])
    assert inner(fits) == [list(range(10))]
    assert inner(exceeds) == [list(range(10)), list(range(1, 11))]


@given(
    n=st.integers(0, 400),
    max_length=st.integers(4, 40),
    overlap=st.integers(0, 10),
    max_windows=st.integers(1, 20),
)
def test_windows_cover_the_text_and_overlap(
    tokenizer: MakeTokenizer, n: int, max_length: int, overlap: int, max_windows: int
) -> None:
    room = max_length - 2
    overlap = min(overlap, room - 1)
    made = tokenizer(numbers(), max_length=max_length, overlap=overlap, max_windows=max_windows)
    (encoding,) = made.encode(count_to(n))
    windows = inner(encoding)
    assert len(windows) <= max_windows
    assert merged(encoding) == list(range(min(n, made.max_tokens)))
    assert encoding.truncated == (n > made.max_tokens)
    assert n <= room or all(window == list(range(window[0], window[0] + room)) for window in windows)
    for before, after in pairwise(windows):
        assert before[0] < after[0]
        assert len(set(before) & set(after)) >= overlap
    if not encoding.truncated:
        assert encoding.n_tokens == n + 2


def test_truncation_keeps_the_beginning_and_is_reported(tokenizer: MakeTokenizer) -> None:
    short, long = tokenizer(numbers(), max_length=12, policy="truncate").encode([count_to(10), count_to(11)])
    assert inner(short) == inner(long) == [list(range(10))]
    assert (short.truncated, short.n_tokens) == (False, 12)
    assert (long.truncated, long.n_tokens) == (True, 13)


def test_text_too_long_error_has_text_and_lengths(tokenizer: MakeTokenizer) -> None:
    made = tokenizer(numbers(), max_length=12, policy="error")
    made.encode(["7", count_to(10)])
    with pytest.raises(TextTooLong, match="text 1 has 13 tokens; this model reads 12"):
        made.encode(["7", count_to(11)])
    with pytest.raises(TextTooLong, match="text 4097 has 13 tokens"):
        made.encode(["7", count_to(11)], first_row=4096)


def test_error_policy_rejects_untokenised_giant_text(tokenizer: MakeTokenizer) -> None:
    with pytest.raises(TextTooLong, match=r"text 1 has 1,000 characters; at most 160 are read for 12 tokens"):
        tokenizer(numbers(), max_length=12, policy="error").encode(["7", "x" * 1000])
    with pytest.raises(TextTooLong, match="text 4096 has 1,000 characters"):
        tokenizer(numbers(), max_length=12, policy="error").encode("x" * 1000, first_row=4096)


@pytest.mark.parametrize("policy", ["window", "truncate"])
@pytest.mark.parametrize("mark", ["late ", "x", "ü", "\n", "[SEP]", "💥", "\ud800", "\0"])
def test_10_mb_text_is_truncated_and_flagged(tokenizer: MakeTokenizer, policy: str, mark: str) -> None:
    made = tokenizer(policy=policy)
    (encoding,) = made.encode(mark * (10_000_000 // len(mark)))
    assert encoding.truncated
    assert 1 <= len(encoding.windows) <= 32
    assert all(2 <= len(window) <= 32 for window in encoding.windows)


# Bounding the characters does not change the tokens that are kept


def wordpiece() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(
        models.WordPiece({"[UNK]": 0, **{piece: n for n, piece in enumerate(PIECES, 1)}}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def byte_level_bpe() -> tokenizers.Tokenizer:
    """Return a BPE tokenizer with tokens of up to 64 bytes, including runs of blanks, like GPT-2's and RoBERTa's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(piece, piece) for mark in ("a", "-", "\u0120") for piece in (mark * 2**power for power in range(6))]
    vocabulary = {piece: n for n, piece in enumerate([*alphabet, *(one + other for one, other in merges)])}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def unigram() -> tokenizers.Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        *((piece.replace("##", ""), -float(n + 1)) for n, piece in enumerate(PIECES)),
        ("▁", -2.0),
    ]
    made = tokenizers.Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


PIECES = ("a", "b", "##a", "##b", "abab", "##abab", "a" * 40, "##" + "a" * 40, "-", "é", "\u0301", "##\u0301")
WORDS = st.lists(
    st.sampled_from(["a", "b", "abab", "a" * 40, "b" * 60, "-" * 50, "é", "e\u0301", "ω" * 90]), min_size=1
)
BLANKS = st.sampled_from([" ", "  ", "\n", "\t", " \n ", " " * 50])


@pytest.mark.parametrize("kind", [wordpiece, byte_level_bpe, unigram])
@example(words=[("a" * 64, " "), ("a" * 64, " "), ("a" * 27, " " * 50), ("b", " ")])  # cut between blanks
@given(words=st.lists(st.tuples(WORDS.map(lambda parts: "".join(parts)[:150]), BLANKS), min_size=1, max_size=40))
def test_character_limit_keeps_tokens_unchanged(
    tokenizer: MakeTokenizer, kind: Callable[[], tokenizers.Tokenizer], words: list[tuple[str, str]]
) -> None:
    """Words have up to 150 characters; most of these texts have far more than 16 characters per token."""
    text = "".join(word + blank for word, blank in words)
    whole: list[int] = kind().encode(text, add_special_tokens=False).ids
    made = tokenizer(str(kind().to_str()).encode(), max_length=12, policy="truncate")
    (encoding,) = made.encode(text)
    (kept,) = inner(encoding)
    assert kept == whole[: len(kept)]
    if made.reads_all(text):
        assert kept == whole[:10]
    assert encoding.truncated == (len(kept) < len(whole) or not made.reads_all(text))


@pytest.mark.parametrize("kind", [wordpiece, byte_level_bpe, unigram])
@given(
    words=st.lists(st.tuples(WORDS.map(lambda parts: "".join(parts)[:150]), BLANKS), min_size=1, max_size=20),
    times=st.integers(1, 200),
)
def test_prefix_reading_keeps_tokens_unchanged(
    tokenizer: MakeTokenizer, kind: Callable[[], tokenizers.Tokenizer], words: list[tuple[str, str]], times: int
) -> None:
    """Both if a beginning contains all tokens that are kept, and if the rest has to be read."""
    text = "".join(word + blank for word, blank in words) * times
    whole: list[int] = kind().encode(text[: 98 * MAX_CHARACTERS_PER_TOKEN], add_special_tokens=False).ids
    made = tokenizer(str(kind().to_str()).encode(), max_length=100, policy="truncate")
    (encoding,) = made.encode(text)
    (kept,) = inner(encoding)
    assert kept == whole[: len(kept)]
    if made.reads_all(text):
        assert kept == whole[:98]
        assert encoding.truncated == (len(whole) > 98)


@pytest.mark.parametrize(("mark", "most"), [("x", 160), ("é", 160), ("€", 106), ("💥", 80), ("\ud800", 160)])
def test_text_is_limited_by_characters_and_bytes(tokenizer: MakeTokenizer, mark: str, most: int) -> None:
    """At most ten tokens: 160 characters, or 320 bytes."""
    made = tokenizer(max_length=12, policy="truncate")
    assert made.reads_all(mark * most)
    assert not made.reads_all(mark * (most + 1))
    (encoding,) = made.encode(mark * (most + 1))
    assert encoding.truncated


def test_long_text_is_read_partially(tokenizer: MakeTokenizer) -> None:
    made = tokenizer(max_length=400, policy="truncate")
    (short,) = made.encode("a b " * 600)
    (long,) = made.encode("a b " * 600_000)
    assert inner(short) == inner(long)
    assert long.n_tokens == short.n_tokens == 2 + 398 * FIRST_CHARACTERS_PER_TOKEN // 2
    assert long.truncated


def test_character_limit_loses_no_token_of_usual_texts(tokenizer: MakeTokenizer) -> None:
    """With fewer than 16 characters per token the windows are as full as without the bound."""
    made = tokenizer(max_windows=2)
    (encoding,) = made.encode("the parcel was late and the courier was not very good " * 200)
    assert [len(window) for window in encoding.windows] == [32, 32]
    assert encoding.truncated


# Tokenizers that cannot be used


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1, 2]", b'{"version": "1.0"}'])
def test_invalid_tokenizer_json_is_rejected(tokenizer: MakeTokenizer, content: bytes) -> None:
    with pytest.raises(BundleError, match="not a tokenizer that tokenizers"):
        tokenizer(content or b" ")


def test_tokenizer_failure_error(tokenizer: MakeTokenizer) -> None:
    content = json.loads(numbers())
    content["model"]["unk_token"] = "absent"
    with pytest.raises(BundleError, match="cannot tokenize"):
        tokenizer(json.dumps(content).encode()).encode("word")


def test_padding_and_truncation_are_disabled(tokenizer: MakeTokenizer) -> None:
    made = tokenizers.Tokenizer.from_str(numbers().decode())
    made.enable_truncation(4)
    made.enable_padding(length=20)
    assert merged(tokenizer(str(made.to_str()).encode()).encode(count_to(50))[0]) == list(range(50))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_length": 2}, "max_length 2 leaves 0 tokens"),
        ({"max_length": 12, "overlap": 10}, "an overlap of 10 uses up"),
        ({"overlap": -1}, "overlap of -1"),
        ({"max_windows": 0}, "0 windows"),
    ],
)
def test_invalid_window_sizes_are_rejected(tokenizer: MakeTokenizer, options: Any, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        tokenizer(**options)
