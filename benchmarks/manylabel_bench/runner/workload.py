"""What is measured on: real texts at their real lengths, with the labels they have, and their lengths in tokens."""

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
SAMPLED = 500
"""Texts that rivals may calibrate and choose their settings by."""


@dataclass(frozen=True)
class Workload:
    """Texts in the order in which they are asked.

    Attributes:
        data: Texts and targets in the bundle's column order; NaN for texts that are there for their length alone.
        sources: Where they come from, and how many.
        tokenizer: The bundle's.
    """

    data: Dataset
    sources: dict[str, int]
    tokenizer: Tokenizer

    @cached_property
    def encodings(self) -> list[Encoding]:
        """Every text as this runtime reads it."""
        return self.tokenizer.encode(self.data.texts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, special ones included, shape `(n,)`."""
        return np.array([each.n_tokens for each in self.encodings], dtype=np.int64)

    def tokens(self, batching: str) -> int:
        """Tokens that a contender computes for all texts, padding left out: of windows, or of truncated texts."""
        if batching == "equal":
            return sum(len(window) for each in self.encodings for window in each.windows)
        return int(np.minimum(self.lengths, self.tokenizer.max_length).sum())

    def describe(self) -> dict[str, Any]:
        """Sources, digest, and a histogram of the lengths."""
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

    def of_length(self, length: int, number: int) -> list[str]:
        """Texts of exactly so many tokens, made of the real ones, which are joined and cut at blanks.

        Returns:
            `number` texts, or fewer where the words do not come out even often enough.
        """
        words = " ".join(self.data.texts).split()
        endless = words * (length // len(words) + 2)
        found: list[str] = []
        for start in range(0, len(words), max(1, len(words) // (4 * number))):
            count = bisect_left(range(length), length, key=partial(self._length, endless, start))
            if self._length(endless, start, count) == length:
                found.append(" ".join(endless[start : start + count]))
            if len(found) == number:
                break
        return found

    def _length(self, words: Sequence[str], start: int, count: int) -> int:
        (one,) = self.tokenizer.encode(" ".join(words[start : start + count]))
        return one.n_tokens


def gather(bundle: Bundle, parts: Sequence[tuple[str, Dataset]], limit: int) -> Workload:
    """A mix of data sets, shuffled.

    Args:
        bundle: Whose columns the targets are in.
        parts: Names and rows.
        limit: Texts of each at most, drawn at random, the same ones every time; 0 for all.
    """
    dice = random.Random(0)  # noqa: S311 - no secret
    sizes = [min(limit or len(data), len(data)) for _, data in parts]
    chosen = [
        (name, data.take(sorted(dice.sample(range(len(data)), size))))
        for (name, data), size in zip(parts, sizes, strict=True)
    ]
    texts = [text for _, data in chosen for text in data.texts]
    targets = np.concatenate([data.targets for _, data in chosen])
    joined = Dataset(tuple(texts), targets, bundle.labels)
    if len(chosen) > 1:
        joined = joined.take(dice.sample(range(len(joined)), len(joined)))
    return Workload(joined, {name: len(data) for name, data in chosen}, _tokenizer(bundle))


def sample(others: Sequence[Sequence[str]], shares: Sequence[int]) -> list[str]:
    """Some texts that are not measured, mixed as those that are.

    Args:
        others: Of each part of a workload, texts to draw from.
        shares: How many texts each part has in the workload.
    """
    dice = random.Random(1)  # noqa: S311 - no secret
    sizes = [min(len(texts), round(SAMPLED * share / sum(shares))) for texts, share in zip(others, shares, strict=True)]
    chosen = [text for texts, size in zip(others, sizes, strict=True) for text in dice.sample(texts, size)]
    return dice.sample(chosen, len(chosen))


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """A file of texts for the contenders' processes."""
    path.write_text(json.dumps(list(texts)), encoding="utf-8")
    return path


def padding_share(lengths: NDArray[np.int64], batching: str) -> float:
    """The share of computed tokens that are padding, by the way a contender makes its batches.

    Args:
        lengths: Tokens of each text in the order given, shape `(n,)`, truncated ones as they are read.
        batching: As `Contender.batching`.
    """
    if batching == "equal":
        return 0.0
    order, _, size = batching.rpartition(" ")
    lengths = np.sort(lengths) if order == "sorted" else lengths
    batches = [lengths[start : start + int(size)] for start in range(0, len(lengths), int(size))]
    return float(1 - lengths.sum() / sum(len(batch) * batch.max() for batch in batches))


def _tokenizer(bundle: Bundle) -> Tokenizer:
    manifest = bundle.manifest
    return Tokenizer(
        bundle.read(TOKENIZER),
        prefix=manifest.special_tokens.prefix,
        suffix=manifest.special_tokens.suffix,
        max_length=manifest.max_length,
        long_text=LongText("window", manifest.long_text.overlap, manifest.long_text.max_windows),
    )
