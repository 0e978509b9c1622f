"""What the baselines share: texts sorted by length, in batches that are padded to their longest text."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manylabel_bench.contenders.registry import ContenderConfig, Scores

BATCH_SIZE = 32
"""A common choice of users; larger batches were no faster in PyTorch on two cores."""

Tokens = Sequence[Sequence[int]]
"""Token ids of each text, unpadded."""
PaddedIds = NDArray[np.int64]
"""Padded token ids or their mask, shape `(batch, sequence)`."""
Tokenise = Callable[[list[str]], Tokens]


class PaddedContender(ABC):
    """Tokenises all texts, then scores batches of similar length, the shortest first."""

    batching = f"sorted {BATCH_SIZE}"

    def __init__(self, tokenise: Tokenise, pad_id: int) -> None:
        self._tokenise = tokenise
        self._pad_id = pad_id

    @abstractmethod
    def forward(self, input_ids: PaddedIds, attention_mask: PaddedIds) -> Scores:
        """Return the probabilities of one padded batch; ids and mask have the shape `(batch, sequence)`."""

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Return the token ids of each text, truncated."""
        return self._tokenise(list(texts))

    def run(self, tokens: Tokens) -> Scores:
        """Return probabilities in the order of the texts."""
        return restore_order((rows, self.forward(ids, mask)) for rows, ids, mask in self.batches(tokens, BATCH_SIZE))

    def predict_proba(self, texts: Sequence[str]) -> Scores:
        """Tokenise and score the texts."""
        return self.run(self.tokenise(texts))

    def batches(self, tokens: Tokens, size: int) -> Iterator[tuple[list[int], PaddedIds, PaddedIds]]:
        """Yield the rows, padded ids and mask of each batch."""
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            ids = np.full((len(rows), len(tokens[rows[-1]])), self._pad_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, : len(tokens[row])] = tokens[row]
                mask[place, : len(tokens[row])] = 1
            yield rows, ids, mask


def restore_order(batches: Iterator[tuple[list[int], Scores]]) -> Scores:
    """Join the scores of batches in the order of the texts."""
    rows, scores = zip(*batches, strict=True)
    joined = np.concatenate(scores)
    ordered = np.empty_like(joined)
    ordered[np.concatenate(rows)] = joined
    return ordered


def load_checkpoint_tokenizer(config: ContenderConfig) -> tuple[Tokenise, int]:
    """Load the checkpoint's tokenizer with transformers; return it with its padding id."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.required_checkpoint)
    limit = {"truncation": True, "max_length": config.max_length}
    return lambda texts: tokenizer(texts, **limit)["input_ids"], tokenizer.pad_token_id or 0


def load_bundle_tokenizer(config: ContenderConfig) -> tuple[Tokenise, int]:
    """Load the bundle's tokenizer with the tokenizers library alone; return it with its padding id."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(config.bundle) / "tokenizer.json"))
    padding = json.loads(tokenizer.to_str()).get("padding") or {"pad_id": tokenizer.token_to_id("[PAD]") or 0}
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.max_length)
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)], padding["pad_id"]
