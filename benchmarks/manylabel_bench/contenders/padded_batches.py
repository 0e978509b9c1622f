"""What rivals share: texts sorted by length, batches padded to their longest, by someone who takes care."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from manylabel_bench.contenders import Scores, Setting

BATCH = 32
"""What users take; larger ones were no faster in PyTorch on two cores."""

Ids = Sequence[Sequence[int]]
Array = NDArray[np.int64]


class Padded(ABC):
    """Tokenises all texts, then runs batches of similar length, the shortest first."""

    batching = f"sorted {BATCH}"

    def __init__(self, tokenise: Callable[[list[str]], Ids], pad_id: int) -> None:
        self._ids_of = tokenise
        self._pad_id = pad_id

    @abstractmethod
    def forward(self, input_ids: Array, attention_mask: Array) -> Scores:
        """Probabilities of a padded batch; ids and mask of shape `(batch, sequence)`."""

    def tokenise(self, texts: Sequence[str]) -> Ids:
        """Token ids of each text, truncated."""
        return self._ids_of(list(texts))

    def run(self, tokens: Ids) -> Scores:
        """Probabilities in the order of the texts."""
        return restored((rows, self.forward(ids, mask)) for rows, ids, mask in self.batches(tokens, BATCH))

    def scores(self, texts: Sequence[str]) -> Scores:
        """As `run`, from texts."""
        return self.run(self.tokenise(texts))

    def batches(self, tokens: Ids, size: int) -> Iterator[tuple[list[int], Array, Array]]:
        """Rows, padded ids and mask of each batch."""
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            ids = np.full((len(rows), len(tokens[rows[-1]])), self._pad_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, : len(tokens[row])] = tokens[row]
                mask[place, : len(tokens[row])] = 1
            yield rows, ids, mask


def restored(found: Iterator[tuple[list[int], Scores]]) -> Scores:
    """Rows of batches in the order of the texts."""
    rows, scores = zip(*found, strict=True)
    joined = np.concatenate(scores)
    result = np.empty_like(joined)
    result[np.concatenate(rows)] = joined
    return result


def transformers_tokenizer(setting: Setting) -> tuple[Callable[[list[str]], Ids], int]:
    """The checkpoint's tokenizer as transformers loads it, and the id it pads with."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(setting.model)
    limit = {"truncation": True, "max_length": setting.max_length}
    return lambda texts: tokenizer(texts, **limit)["input_ids"], tokenizer.pad_token_id or 0


def plain_tokenizer(setting: Setting) -> tuple[Callable[[list[str]], Ids], int]:
    """The bundle's tokenizer by the library alone, and the id it pads with."""
    import json
    from pathlib import Path

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(setting.bundle) / "tokenizer.json"))
    padding = json.loads(tokenizer.to_str()).get("padding") or {"pad_id": tokenizer.token_to_id("[PAD]") or 0}
    tokenizer.no_padding()
    tokenizer.enable_truncation(setting.max_length)
    return lambda texts: [one.ids for one in tokenizer.encode_batch_fast(texts)], padding["pad_id"]


def sigmoid(logits: NDArray[np.floating]) -> Scores:
    """Probabilities of logits."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float32))), dtype=np.float32)
