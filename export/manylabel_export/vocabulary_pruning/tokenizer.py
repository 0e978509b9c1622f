"""A `tokenizer.json` cut to some of its pieces, so that texts which use no other are tokenised as before.

Knows nothing of models or corpora. Why each kind of vocabulary keeps its segmentation:

- WordPiece takes the longest piece that fits. Where the pieces that a text takes stay, no longer one can appear.
- Unigram takes the likeliest segmentation. Its pieces stay with their scores, every other one can only vanish. The
  piece with the least score stays as well: the library derives from it what an unknown character costs.
- BPE applies the first merge that fits. The merges that lead to a text's pieces stay, in order; any other was not
  applied, so that it is not missed.

Single characters and bytes always stay: out of them any other word is still read.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from manylabel.errors import ExportError

LOW = 16
"""Ids below this stay as they are: special tokens begin there, and RoBERTa's kin count positions from the padding's."""


@dataclass(frozen=True)
class Cut:
    """A vocabulary without some of its pieces.

    Attributes:
        serialized: The new `tokenizer.json`.
        kept: Which old ids stay, ascending, shape `(n,)`; a piece's new id is its place here.
    """

    serialized: str
    kept: NDArray[np.int64]


def cut(serialized: str, used: Iterable[int], words: Iterable[str]) -> Cut:
    """Cut a vocabulary to the pieces that are used, and those that any text can be made of.

    Args:
        serialized: A `tokenizer.json`.
        used: Ids that have to stay.
        words: Words that are unknown, as the model is handed them; they stay unknown.

    Raises:
        ExportError: The tokenizer is of a kind for which nobody has shown that it can be cut.
    """
    content = json.loads(serialized)
    model = content["model"]
    keeper = _KEEPERS.get(model["type"])
    if keeper is None:
        raise ExportError(
            f"a {model['type']} tokenizer cannot be cut; --trim-vocabulary takes {', '.join(_KEEPERS)}. Leave it out."
        )
    ids = _ids(content)
    kept = {*used, *range(LOW)} & set(ids.values())
    kept |= {token["id"] for token in content["added_tokens"]} | {ids[name] for name in _bytes_of(ids)}
    kept |= keeper(model, ids, kept, words)
    order = np.array(sorted(kept), dtype=np.int64)
    _rewrite(content, {int(old): new for new, old in enumerate(order)})
    result = Cut(json.dumps(content, ensure_ascii=False), order)
    _require_as_written(result, ids)
    return result


def _ids(content: dict[str, Any]) -> dict[str, int]:
    """Every piece's id."""
    vocab = content["model"]["vocab"]
    pieces = vocab if isinstance(vocab, dict) else {piece: at for at, (piece, _) in enumerate(vocab)}
    return {**pieces, **{token["content"]: token["id"] for token in content["added_tokens"]}}


def _bytes_of(ids: dict[str, int]) -> Iterator[str]:
    """The pieces of byte fall-back, where there are any."""
    return (name for name in (f"<0x{byte:02X}>" for byte in range(256)) if name in ids)


def _wordpiece(model: dict[str, Any], ids: dict[str, int], kept: set[int], words: Iterable[str]) -> set[int]:
    """Single characters, at a word's beginning and within; and what unknown words match before they fail."""
    prefix, vocab = model["continuing_subword_prefix"], model["vocab"]
    single = {at for piece, at in vocab.items() if len(piece.removeprefix(prefix)) == 1}
    return single | {vocab[model["unk_token"]]} | {vocab[piece] for word in words for piece in _matched(word, model)}


def _matched(word: str, model: dict[str, Any]) -> Iterator[str]:
    """The longest pieces that fit an unknown word, until none fits: without them another would, and lead elsewhere."""
    start = 0
    while start < len(word) <= model["max_input_chars_per_word"]:
        lead = model["continuing_subword_prefix"] if start else ""
        fits = (end for end in range(len(word), start, -1) if lead + word[start:end] in model["vocab"])
        end = next(fits, None)
        if end is None:
            return
        yield lead + word[start:end]
        start = end


def _unigram(model: dict[str, Any], ids: dict[str, int], kept: set[int], words: Iterable[str]) -> set[int]:
    """Single characters, the unknown piece, and the least likely one."""
    scores = [score for _, score in model["vocab"]]
    single = {at for at, (piece, _) in enumerate(model["vocab"]) if len(piece) == 1}
    return single | {int(np.argmin(scores))} | ({model["unk_id"]} - {None})


def _bpe(model: dict[str, Any], ids: dict[str, int], kept: set[int], words: Iterable[str]) -> set[int]:
    """What no merge makes, and whatever the merges that make a kept piece start from."""
    vocab, parts = model["vocab"], [_pair(merge) for merge in model["merges"]]
    makers: dict[int, list[tuple[int, int]]] = {}
    for left, right in parts:
        makers.setdefault(vocab[_joined(left, right, model)], []).append((vocab[left], vocab[right]))
    needed = kept | {at for at in vocab.values() if at not in makers}
    todo = list(needed)
    while todo:
        new = {part for pair in makers.get(todo.pop(), ()) for part in pair} - needed
        needed |= new
        todo += new
    return needed


_KEEPERS: dict[str, Callable[[dict[str, Any], dict[str, int], set[int], Iterable[str]], set[int]]] = {
    "WordPiece": _wordpiece,
    "Unigram": _unigram,
    "BPE": _bpe,
}


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge  # older files have a string
    return left, right


def _joined(left: str, right: str, model: dict[str, Any]) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _rewrite(content: dict[str, Any], new: dict[int, int]) -> None:
    """Leave out what is not kept, and give the rest its new ids, wherever the file has one."""
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {piece: new[old] for piece, old in model["vocab"].items() if old in new}
    else:
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in new]
        model["unk_id"] = new.get(model["unk_id"])
    if "merges" in model:
        vocab = model["vocab"]
        parts = ((merge, *_pair(merge)) for merge in model["merges"])
        model["merges"] = [
            merge
            for merge, left, right in parts
            if left in vocab and right in vocab and _joined(left, right, model) in vocab
        ]
    for token in content["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(content["post_processor"], new)
    content["padding"] = content["truncation"] = None


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """The ids of special tokens in a post-processor, or in each of several."""
    processor = processor or {}
    for one in processor.get("processors", ()):
        _renumber(one, new)
    for token in dict(processor.get("special_tokens", {})).values():
        token["ids"] = [new[old] for old in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = new[processor[name][1]]


def _require_as_written(result: Cut, ids: dict[str, int]) -> None:
    """The library numbers added tokens itself; hold it to the numbers that were meant."""
    names = {at: piece for piece, at in ids.items()}
    wanted = {names[old]: new for new, old in enumerate(result.kept.tolist())}
    if Tokenizer.from_str(result.serialized).get_vocab(with_added_tokens=True) != wanted:
        raise ExportError(
            "the cut tokenizer numbers its pieces otherwise than it was told to: its added tokens do not follow its "
            "vocabulary. Leave --trim-vocabulary out."
        )
