"""Near-duplicates: groups of equal and nearly equal texts, found without comparing every pair.

Equal means up to case, Unicode form and white space. Nearly equal means up to punctuation, or a Jaccard similarity of
at least 0.8 between the sets of five-character shingles (Broder 1997). Candidates come from MinHash signatures in bands
(Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4); then the similarity of every candidate pair
is computed exactly.

datasketch offers the same method, but hashes shingle by shingle in Python, where this module hashes a million
characters at once in numpy; and its candidates differ, which would change the splits of existing data.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MIN_SIMILARITY = 0.8
SHINGLE = 5
BANDS, ROWS_PER_BAND = 16, 4
"""Two texts share a band with probability 1 - (1 - s ** 4) ** 16 at similarity s: 0.9998 at 0.8, 0.12 at 0.3."""

MIN_AGREEMENT = 0.6
"""Share of equal places in two signatures of 64 from which a pair is compared: 4 standard deviations below 0.8."""

MAX_DISTANCE = 8
"""How far apart in a bucket two texts may be to be compared: all pairs in small buckets, a chain through large ones."""

CHUNK = 1 << 20  # characters that are hashed together
PRIME = np.uint64(0x100000001B3)

Numbers = NDArray[np.intp]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class DuplicateGroups:
    """Groups of equal and of nearly equal texts. Every near group consists of whole exact groups.

    Attributes:
        exact: For each text the number of its group of equal texts, shape `(n,)`.
        near: For each text the number of its group of nearly equal texts, shape `(n,)`. The relation is made
            transitive: of three texts, the first and the last may share a group only through the middle one.
    """

    exact: Numbers
    near: Numbers


def find_near_duplicates(texts: Sequence[str]) -> DuplicateGroups:
    """Group texts that are equal and texts that are nearly equal.

    No text is compared with all others: the work grows linearly with the number of texts.

    Args:
        texts: `n` texts.

    Example:
        >>> groups = find_near_duplicates(["Great  phone", "great phone", "Great phone!", "Bad battery"])
        >>> groups.exact, groups.near
        (array([0, 0, 1, 2]), array([0, 0, 0, 1]))
    """
    exact, kept = _number_distinct(_normalize(text) for text in texts)
    bare, kept = _number_distinct(_strip_punctuation(text) for text in kept)
    return DuplicateGroups(exact, _join_similar(kept)[bare[exact]])


def _normalize(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _strip_punctuation(text: str) -> str:
    """Return only the words; the text itself if it has none (an emoji, a smiley)."""
    return " ".join(re.findall(r"\w+", text)) or text


def _number_distinct(texts: Iterable[str]) -> tuple[Numbers, list[str]]:
    """Return for each text its place among the distinct texts, and the distinct texts."""
    places: dict[str, int] = {}
    numbers = [places.setdefault(text, len(places)) for text in texts]
    return np.array(numbers, dtype=np.intp), list(places)


def _join_similar(texts: Sequence[str]) -> Numbers:
    """Return for each of some distinct texts the first text of its group (union-find), shape `(n,)`."""
    parent = list(range(len(texts)))

    def find_root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for one, other in _find_candidates(_compute_signatures(texts)).tolist():
        first, second = sorted((find_root(one), find_root(other)))
        if first != second and jaccard_similarity(texts[one], texts[other]) >= MIN_SIMILARITY:
            parent[second] = first
    return np.array([find_root(place) for place in range(len(texts))], dtype=np.intp)


def jaccard_similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' shingles, from 0 to 1.

    Example:
        >>> jaccard_similarity("a great phone", "a great phones")
        0.9
    """
    a, b = split_shingles(one), split_shingles(other)
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


@lru_cache(maxsize=256)
def split_shingles(text: str) -> frozenset[str]:
    """Return the shingles of a text; a text that is shorter than a shingle is its only one."""
    return frozenset(text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1)))


def _find_candidates(signatures: Hashes) -> NDArray[np.intp]:
    """Return pairs of texts that are worth comparing, shape `(n_pairs, 2)`, each once."""
    candidates = [np.empty((0, 2), dtype=np.intp)]
    for band in range(BANDS):
        keys = np.zeros(len(signatures), dtype=np.uint64)
        for column in range(band * ROWS_PER_BAND, (band + 1) * ROWS_PER_BAND):
            keys = _mix_bits(keys * PRIME + signatures[:, column])
        for pairs in _pair_equal_keys(keys):
            candidates.append(pairs[_signature_agreement(signatures, pairs) >= MIN_AGREEMENT])
    return np.unique(np.concatenate(candidates), axis=0)


def _pair_equal_keys(keys: Hashes) -> Iterator[NDArray[np.intp]]:
    """Yield pairs of places with the same key, at most `MAX_DISTANCE` apart among those, the lower place first."""
    order = np.argsort(keys, kind="stable")
    for distance in range(1, MAX_DISTANCE + 1):
        one, other = order[:-distance], order[distance:]
        same = keys[one] == keys[other]
        if not same.any():
            return
        yield np.stack([one[same], other[same]], axis=1)


def _signature_agreement(signatures: Hashes, pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.asarray((signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1))


def _compute_signatures(texts: Sequence[str]) -> Hashes:
    """Compute MinHash signatures, shape `(n, BANDS * ROWS_PER_BAND)`."""
    rng, size = np.random.default_rng(0), BANDS * ROWS_PER_BAND
    factors = rng.integers(1, 2**63, size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    result = np.empty((len(texts), size), dtype=np.uint64)
    for start, stop in _split_chunks(texts):
        hashes, starts = hash_shingles([text.ljust(SHINGLE, "\0") for text in texts[start:stop]])
        for column, factor in enumerate(factors):
            result[start:stop, column] = np.minimum.reduceat(hashes * factor, starts)
    return result


def _split_chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield bounds of chunks that have about `CHUNK` characters, or are one long text."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.intp)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        yield start, stop
        start = stop


def hash_shingles(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.intp]]:
    """Return the hashes of all texts' shingles, concatenated, and where each text's hashes start."""
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)
    hashes = np.zeros(len(windows), dtype=np.uint64)
    for column in range(SHINGLE):
        hashes = hashes * PRIME + windows[:, column]
    counts = np.array([len(text) - SHINGLE + 1 for text in texts])
    within_text = np.ones(len(hashes), dtype=bool)
    bounds = np.cumsum(counts + SHINGLE - 1)[:-1]  # where one text ends and the next begins
    within_text[(bounds[:, None] - np.arange(1, SHINGLE)).ravel()] = False
    return _mix_bits(hashes[within_text]), np.cumsum(counts) - counts


def _mix_bits(values: Hashes) -> Hashes:
    """Return hashes whose every bit depends on every bit of the value (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
