"""Near-duplicates are found, and other texts are not grouped."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manylabel_train.data import near_duplicates
from manylabel_train.data.near_duplicates import find_near_duplicates

REVIEW = "The courier was an hour late and the parcel was wet, but the support was friendly about it"


def grouped(*texts: str) -> tuple[int, int]:
    """Return the number of distinct texts, exactly and nearly."""
    copies = find_near_duplicates(texts)
    return len(set(copies.exact.tolist())), len(set(copies.near.tolist()))


@pytest.mark.parametrize(
    ("one", "other", "groups"),
    [
        ("Fine.", "Fine.", (1, 1)),
        ("Fine.", " fine.\n", (1, 1)),  # case and white space
        ("größe", "GRÖSSE", (1, 1)),
        ("cafe\u0301", "caf\u00e9", (1, 1)),  # Unicode forms
        ("Fine!", "fine ...", (2, 1)),  # punctuation
        (REVIEW, REVIEW.replace("hour", "day"), (2, 1)),
        (REVIEW, "Update: " + REVIEW, (2, 1)),
        (REVIEW, REVIEW[: len(REVIEW) // 2], (2, 2)),
        ("good", "bad", (2, 2)),
        ("good", "not good", (2, 2)),
        ("1", "2", (2, 2)),
        ("🙂", "🙁", (2, 2)),
        (":)", ":(", (2, 2)),
        ("", " ", (1, 1)),
        ("\ud800", "\ud801", (2, 2)),
    ],
)
def test_near_duplicate_definition(one: str, other: str, groups: tuple[int, int]) -> None:
    assert grouped(one, other) == grouped(other, one) == groups


def test_no_text_and_one_text() -> None:
    assert len(find_near_duplicates([]).near) == 0
    assert grouped("alone") == (1, 1)


def sentence(draw: random.Random) -> str:
    return " ".join("".join(draw.choices("abcdefghijklmnopqrst", k=draw.randint(2, 8))) for _ in range(20))


def test_edited_duplicates_are_found_in_large_sets_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    texts = [sentence(draw) for _ in range(1500)]
    edited = [" ".join([*text.split()[:-1], "edited"]) for text in texts[:300]]
    whole = find_near_duplicates(texts + edited).near
    assert (whole[:300] == whole[1500:]).mean() > 0.99
    assert len(np.unique(whole[:1500])) == 1500
    monkeypatch.setattr(near_duplicates, "CHUNK", 1000)
    assert np.array_equal(find_near_duplicates(texts + edited).near, whole)


def test_template_duplicates_are_grouped_without_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, similarity = [], near_duplicates.jaccard_similarity
    monkeypatch.setattr(near_duplicates, "jaccard_similarity", lambda *pair: counted.append(pair) or similarity(*pair))
    assert grouped(*(f"{REVIEW} order {number}" for number in range(600))) == (600, 1)
    assert len(counted) < 6000  # all pairs would be 179,700


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab c.\n", max_size=12), max_size=30))
def test_near_duplicate_groups_contain_exact_groups(texts: list[str]) -> None:
    copies = find_near_duplicates(texts)
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            if one == other:
                assert copies.exact[i] == copies.exact[j]
            if copies.exact[i] == copies.exact[j]:
                assert copies.near[i] == copies.near[j]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="abcd e", max_size=25), min_size=2, max_size=20, unique=True))
def test_hash_shingles_match_the_texts(texts: list[str]) -> None:
    padded = [text.ljust(near_duplicates.SHINGLE, "\0") for text in texts]
    hashes, begins = near_duplicates.hash_shingles(padded)
    for text, own in zip(padded, np.split(hashes, begins[1:]), strict=True):
        alone, _ = near_duplicates.hash_shingles([text])
        assert own.tolist() == alone.tolist()
        assert len(set(own.tolist())) == len(near_duplicates.split_shingles(text))
