"""The workload: real texts at their real lengths in tokens, with their labels where they are known."""

import json
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel import Bundle
from manylabel.bundle.bundle import TOKENIZER
from manylabel.inference.tokenizer import Encoding, LongText, Tokenizer
from manylabel_train.data.dataset import Dataset

EDGES = (0, 8, 16, 32, 64, 128, 256, 512)
LENGTHS = (16, 32, 64, 128, 256, 512)
SAMPLE_SIZE = 500
"""Texts with which baselines may calibrate and tune their settings."""


@dataclass(frozen=True)
class Workload:
    """The texts, in the order in which they are scored.

    Attributes:
        data: Texts and targets in the bundle's column order; NaN for texts that are used for their length only.
        sources: How many texts come from each file.
        tokenizer: The bundle's tokenizer.
    """

    data: Dataset
    sources: dict[str, int]
    tokenizer: Tokenizer

    @cached_property
    def encodings(self) -> list[Encoding]:
        """Every text as `manylabel` encodes it."""
        return self.tokenizer.encode(self.data.texts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, special tokens included, shape `(n,)`."""
        return np.array([encoding.n_tokens for encoding in self.encodings], dtype=np.int64)

    def count_tokens(self, batching: str) -> int:
        """Return the tokens that a contender computes for all texts without padding: of windows or truncated texts."""
        if batching == "equal":
            return sum(len(window) for encoding in self.encodings for window in encoding.windows)
        return int(np.minimum(self.lengths, self.tokenizer.max_length).sum())

    def describe(self) -> dict[str, Any]:
        """Return sources, digest, and a histogram of the lengths, as JSON types."""
        labelled = int((~np.isnan(self.data.targets).all(axis=1)).sum())
        counts = np.histogram(self.lengths, bins=[*(edge + 1 for edge in EDGES), np.inf])[0].tolist()
        names = [f"{low + 1} to {high}" for low, high in pairwise(EDGES)]
        quantiles = {f"p{q}": float(np.percentile(self.lengths, q)) for q in (50, 90, 99)}
        return {
            "sources": self.sources,
            "digest": self.data.digest(),
            "labelled": labelled,
            "tokens": int(self.lengths.sum()),
            "max_length": self.tokenizer.max_length,
            "lengths": {"mean": float(self.lengths.mean()), **quantiles, "max": int(self.lengths.max())},
            "histogram": dict(zip([*names, f"over {EDGES[-1]}"], counts, strict=True)),
        }

    def texts_of_length(self, length: int, number: int) -> list[str]:
        """Build texts of exactly `length` tokens from the real texts, joined and cut at spaces.

        Returns:
            `number` texts, or fewer if word boundaries meet the length too rarely.
        """
        words = " ".join(self.data.texts).split()
        repeated = words * (length // len(words) + 2)
        built: list[str] = []
        for start in range(0, len(words), max(1, len(words) // (4 * number))):
            count = bisect_left(range(length), length, key=partial(self._count_tokens, repeated, start))
            if self._count_tokens(repeated, start, count) == length:
                built.append(" ".join(repeated[start : start + count]))
            if len(built) == number:
                break
        return built

    def _count_tokens(self, words: Sequence[str], start: int, count: int) -> int:
        (encoding,) = self.tokenizer.encode(" ".join(words[start : start + count]))
        return encoding.n_tokens


def build_workload(bundle: Bundle, parts: Sequence[tuple[str, Dataset]], limit: int) -> Workload:
    """Mix and shuffle data sets.

    Args:
        bundle: The bundle whose column order the targets have.
        parts: Names and rows of the data sets.
        limit: Maximum number of texts of each, drawn at random with a fixed seed; 0 takes all.
    """
    rng = random.Random(0)
    sizes = [min(limit or len(data), len(data)) for _, data in parts]
    chosen = [
        (name, data.take(sorted(rng.sample(range(len(data)), size))))
        for (name, data), size in zip(parts, sizes, strict=True)
    ]
    texts = [text for _, data in chosen for text in data.texts]
    targets = np.concatenate([data.targets for _, data in chosen])
    joined = Dataset(tuple(texts), targets, bundle.labels)
    if len(chosen) > 1:
        joined = joined.take(rng.sample(range(len(joined)), len(joined)))
    return Workload(joined, {name: len(data) for name, data in chosen}, _load_tokenizer(bundle))


def sample_texts(others: Sequence[Sequence[str]], shares: Sequence[int]) -> list[str]:
    """Draw texts that are not measured, in the proportions of those that are.

    Args:
        others: Texts to draw from, for each part of the workload.
        shares: Number of texts that each part has in the workload.
    """
    rng = random.Random(1)
    sizes = [
        min(len(texts), round(SAMPLE_SIZE * share / sum(shares))) for texts, share in zip(others, shares, strict=True)
    ]
    chosen = [text for texts, size in zip(others, sizes, strict=True) for text in rng.sample(texts, size)]
    return rng.sample(chosen, len(chosen))


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """Write the texts to a file for the contenders' processes, and return its path."""
    path.write_text(json.dumps(list(texts)), encoding="utf-8")
    return path


def padding_share(lengths: NDArray[np.int64], batching: str) -> float:
    """Return the share of computed tokens that are padding.

    Args:
        lengths: Tokens of each text in the given order, after truncation, shape `(n,)`.
        batching: As `Contender.batching`.
    """
    if batching == "equal":
        return 0.0
    order, _, size = batching.rpartition(" ")
    lengths = np.sort(lengths) if order == "sorted" else lengths
    batches = [lengths[start : start + int(size)] for start in range(0, len(lengths), int(size))]
    return float(1 - lengths.sum() / sum(len(batch) * batch.max() for batch in batches))


def _load_tokenizer(bundle: Bundle) -> Tokenizer:
    manifest = bundle.manifest
    return Tokenizer(
        bundle.read(TOKENIZER),
        prefix=manifest.special_tokens.prefix,
        suffix=manifest.special_tokens.suffix,
        max_length=manifest.max_length,
        long_text=LongText("window", manifest.long_text.overlap, manifest.long_text.max_windows),
    )
