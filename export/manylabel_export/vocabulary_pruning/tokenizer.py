"""Vocabulary pruning of a `tokenizer.json`, so that texts with only kept tokens are tokenized as before.

Depends on neither models nor corpora. Why each type of vocabulary keeps its segmentation:

- WordPiece takes the longest token that fits. If the tokens of a text are kept, no longer one can appear.
- Unigram takes the most likely segmentation. Kept tokens keep their scores, and other segmentations can only disappear.
  The token with the lowest score is kept as well: the library derives from it the cost of an unknown character.
- BPE applies the first merge that fits. The merges that lead to a text's tokens are kept in order; any other merge was
  not applied, so it is not missing.

Single characters and bytes are always kept: any other word is tokenized into them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from manylabel.errors import ExportError

FIXED_IDS = 16
"""The first ids are never changed: special tokens have them, and RoBERTa counts positions from the padding's id."""


@dataclass(frozen=True)
class PrunedTokenizer:
    """A tokenizer without some of its tokens.

    Attributes:
        serialized: The new `tokenizer.json`.
        kept: The old ids that are kept, ascending, shape `(n,)`; a token's new id is its index here.
    """

    serialized: str
    kept: NDArray[np.int64]


def prune_tokenizer(serialized: str, used: Iterable[int], unknown_words: Iterable[str]) -> PrunedTokenizer:
    """Prune a tokenizer to the tokens that are used, and to those that any text can be made of.

    Args:
        serialized: A `tokenizer.json`.
        used: The ids that must be kept.
        unknown_words: Words that are unknown, after normalisation and pre-tokenization; they stay unknown.

    Raises:
        ExportError: The tokenizer is of a type that pruning does not support.
    """
    content = json.loads(serialized)
    model = content["model"]
    required = _REQUIRED_IDS.get(model["type"])
    if required is None:
        raise ExportError(
            f"the vocabulary of a {model['type']} tokenizer cannot be pruned; --trim-vocabulary supports "
            f"{', '.join(_REQUIRED_IDS)}. Leave --trim-vocabulary out."
        )
    ids = _read_ids(content)
    kept = {*used, *range(FIXED_IDS)} & set(ids.values())
    kept |= {token["id"] for token in content["added_tokens"]} | {ids[name] for name in _byte_tokens(ids)}
    kept |= required(model, kept, unknown_words)
    order = np.array(sorted(kept), dtype=np.int64)
    _remove_tokens(content, {int(old): new for new, old in enumerate(order)})
    pruned = PrunedTokenizer(json.dumps(content, ensure_ascii=False), order)
    _check_ids(pruned, ids)
    return pruned


def _read_ids(content: dict[str, Any]) -> dict[str, int]:
    """Return the id of every token."""
    vocab = content["model"]["vocab"]
    ids = vocab if isinstance(vocab, dict) else {token: index for index, (token, _) in enumerate(vocab)}
    return {**ids, **{token["content"]: token["id"] for token in content["added_tokens"]}}


def _byte_tokens(ids: dict[str, int]) -> Iterator[str]:
    """Return the tokens of byte fallback, if there are any."""
    return (name for name in (f"<0x{byte:02X}>" for byte in range(256)) if name in ids)


def _require_wordpiece(model: dict[str, Any], kept: set[int], unknown_words: Iterable[str]) -> set[int]:
    """Return single characters, at the start of words and within; and what unknown words match before they fail."""
    prefix, vocab = model["continuing_subword_prefix"], model["vocab"]
    single = {token_id for token, token_id in vocab.items() if len(token.removeprefix(prefix)) == 1}
    matched = {vocab[token] for word in unknown_words for token in _matched_tokens(word, model)}
    return single | {vocab[model["unk_token"]]} | matched


def _matched_tokens(word: str, model: dict[str, Any]) -> Iterator[str]:
    """Yield the longest tokens that fit an unknown word, until none fits.

    Without them a shorter one would fit, and the word might become known.
    """
    start = 0
    while start < len(word) <= model["max_input_chars_per_word"]:
        prefix = model["continuing_subword_prefix"] if start else ""
        ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in model["vocab"])
        end = next(ends, None)
        if end is None:
            return
        yield prefix + word[start:end]
        start = end


def _require_unigram(model: dict[str, Any], kept: set[int], unknown_words: Iterable[str]) -> set[int]:
    """Return single characters, the unknown token, and the least likely token."""
    scores = [score for _, score in model["vocab"]]
    single = {index for index, (token, _) in enumerate(model["vocab"]) if len(token) == 1}
    return single | {int(np.argmin(scores))} | ({model["unk_id"]} - {None})


def _require_bpe(model: dict[str, Any], kept: set[int], unknown_words: Iterable[str]) -> set[int]:
    """Return the tokens that no merge makes, and the parts of all merges that lead to a kept token."""
    vocab, merges = model["vocab"], [_merge_parts(merge) for merge in model["merges"]]
    sources: dict[int, list[tuple[int, int]]] = {}
    for left, right in merges:
        sources.setdefault(vocab[_merged(left, right, model)], []).append((vocab[left], vocab[right]))
    required = kept | {token_id for token_id in vocab.values() if token_id not in sources}
    waiting = list(required)
    while waiting:
        new = {part for pair in sources.get(waiting.pop(), ()) for part in pair} - required
        required |= new
        waiting += new
    return required


_REQUIRED_IDS: dict[str, Callable[[dict[str, Any], set[int], Iterable[str]], set[int]]] = {
    "WordPiece": _require_wordpiece,
    "Unigram": _require_unigram,
    "BPE": _require_bpe,
}


def _merge_parts(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge  # older files have strings
    return left, right


def _merged(left: str, right: str, model: dict[str, Any]) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _remove_tokens(content: dict[str, Any], new_ids: dict[int, int]) -> None:
    """Remove all tokens without a new id, and give the others their new ids everywhere in the file."""
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}
    else:
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in new_ids]
        model["unk_id"] = new_ids.get(model["unk_id"])
    if "merges" in model:
        vocab = model["vocab"]
        merges = ((merge, *_merge_parts(merge)) for merge in model["merges"])
        model["merges"] = [
            merge
            for merge, left, right in merges
            if left in vocab and right in vocab and _merged(left, right, model) in vocab
        ]
    for token in content["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    _renumber_special_tokens(content["post_processor"], new_ids)
    content["padding"] = content["truncation"] = None


def _renumber_special_tokens(processor: dict[str, Any] | None, new_ids: dict[int, int]) -> None:
    """Give special tokens their new ids in a post-processor, or in each of a sequence of them."""
    processor = processor or {}
    for inner in processor.get("processors", ()):
        _renumber_special_tokens(inner, new_ids)
    for token in dict(processor.get("special_tokens", {})).values():
        token["ids"] = [new_ids[old] for old in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = new_ids[processor[name][1]]


def _check_ids(pruned: PrunedTokenizer, ids: dict[str, int]) -> None:
    """Raise if the library gives tokens other ids than intended: it numbers added tokens itself."""
    names = {token_id: token for token, token_id in ids.items()}
    expected = {names[old]: new for new, old in enumerate(pruned.kept.tolist())}
    if Tokenizer.from_str(pruned.serialized).get_vocab(with_added_tokens=True) != expected:
        raise ExportError(
            "the tokens of the pruned tokenizer get other ids than intended, because its added tokens do not follow "
            "its vocabulary. Leave --trim-vocabulary out."
        )
