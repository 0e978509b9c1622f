"""Texts that say the same, equal or nearly so, found without comparing every pair.

Equal is up to case, Unicode form and blanks. Nearly equal is up to punctuation, or a Jaccard similarity of at least 0.8
between the sets of five-character shingles (Broder 1997). Candidates come from MinHash signatures in bands (Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and the similarity of every candidate is counted.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NEAR = 0.8
SHINGLE = 5
BANDS, DEPTH = 16, 4
"""Two texts meet in some band with probability 1 - (1 - s ** 4) ** 16 at similarity s: 0.9998 at 0.8, 0.12 at 0.3."""

PLAUSIBLE = 0.6
"""Share of equal places in two signatures of 64 from which a pair is counted: 4 standard deviations below 0.8."""

REACH = 8
"""How far apart in a bucket two texts may stand to be compared: all pairs of small ones, a chain through large ones."""

CHUNK = 1 << 20  # characters that are hashed together
PRIME = np.uint64(0x100000001B3)

Numbers = NDArray[np.intp]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Copies:
    """Which texts say the same; every near group is made of whole exact ones.

    Attributes:
        exact: For each text the number of its group of equal texts, shape `(n,)`.
        near: For each text the number of its group of nearly equal texts, shape `(n,)`. Being nearly equal is passed
            on: of three texts the first and the last may share a group through the middle one alone.
    """

    exact: Numbers
    near: Numbers


def find_copies(texts: Sequence[str]) -> Copies:
    """Group texts that are equal and texts that are nearly equal.

    No text is compared with all others: the work grows with the number of texts.

    Args:
        texts: `n` texts.
    """
    exact, kept = _numbered(_canonical(text) for text in texts)
    bare, kept = _numbered(_bare(text) for text in kept)
    return Copies(exact, _joined(kept)[bare[exact]])


def _canonical(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bare(text: str) -> str:
    """The words alone; the text itself where it has none (an emoji, a smiley)."""
    return " ".join(re.findall(r"\w+", text)) or text


def _numbered(texts: Iterable[str]) -> tuple[Numbers, list[str]]:
    """Each text's place among the different ones, and those."""
    places: dict[str, int] = {}
    numbers = [places.setdefault(text, len(places)) for text in texts]
    return np.array(numbers, dtype=np.intp), list(places)


def _joined(texts: Sequence[str]) -> Numbers:
    """For each of some different texts the first of those it is joined with, shape `(n,)`."""
    parent = list(range(len(texts)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for one, other in _candidates(_signatures(texts)).tolist():
        first, second = sorted((root(one), root(other)))
        if first != second and _similarity(texts[one], texts[other]) >= NEAR:
            parent[second] = first
    return np.array([root(place) for place in range(len(texts))], dtype=np.intp)


def _similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles, from 0 to 1."""
    a, b = _shingles(one), _shingles(other)
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


@lru_cache(maxsize=256)
def _shingles(text: str) -> frozenset[str]:
    return frozenset(text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1)))


def _candidates(signatures: Hashes) -> NDArray[np.intp]:
    """Pairs of texts that are worth comparing, shape `(n_pairs, 2)`, each once."""
    found = [np.empty((0, 2), dtype=np.intp)]
    for band in range(BANDS):
        keys = np.zeros(len(signatures), dtype=np.uint64)
        for column in range(band * DEPTH, (band + 1) * DEPTH):
            keys = _mixed(keys * PRIME + signatures[:, column])
        found += [pairs[_agreement(signatures, pairs) >= PLAUSIBLE] for pairs in _neighbours(keys)]
    return np.unique(np.concatenate(found), axis=0)


def _neighbours(keys: Hashes) -> Iterator[NDArray[np.intp]]:
    """Pairs of places with the same key, at most `REACH` apart among those, the lower place first."""
    order = np.argsort(keys, kind="stable")
    for distance in range(1, REACH + 1):
        one, other = order[:-distance], order[distance:]
        same = keys[one] == keys[other]
        if not same.any():
            return
        yield np.stack([one[same], other[same]], axis=1)


def _agreement(signatures: Hashes, pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.asarray((signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1))


def _signatures(texts: Sequence[str]) -> Hashes:
    """MinHash signatures, shape `(n, BANDS * DEPTH)`."""
    draw = np.random.default_rng(0)
    factors = draw.integers(1, 2**63, BANDS * DEPTH, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    result = np.empty((len(texts), BANDS * DEPTH), dtype=np.uint64)
    for start, stop in _chunks(texts):
        hashes, begins = _hashed_shingles([text.ljust(SHINGLE, "\0") for text in texts[start:stop]])
        for column, factor in enumerate(factors):
            result[start:stop, column] = np.minimum.reduceat(hashes * factor, begins)
    return result


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where to cut the texts so that a chunk has about `CHUNK` characters, or is one long text."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.intp)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        yield start, stop
        start = stop


def _hashed_shingles(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.intp]]:
    """The hashes of all texts' shingles one after the other, and where each text's begin."""
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)
    hashes = np.zeros(len(windows), dtype=np.uint64)
    for column in range(SHINGLE):
        hashes = hashes * PRIME + windows[:, column]
    counts = np.array([len(text) - SHINGLE + 1 for text in texts])
    whole = np.ones(len(hashes), dtype=bool)
    bounds = np.cumsum(counts + SHINGLE - 1)[:-1]  # where one text ends and the next begins
    whole[(bounds[:, None] - np.arange(1, SHINGLE)).ravel()] = False
    return _mixed(hashes[whole]), np.cumsum(counts) - counts


def _mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
