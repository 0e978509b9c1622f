"""Splits: stratification of unsplit data, and leakage across given splits."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.helpers import toy

from manylabel.errors import DataError
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.data.leakage import drop_leaked_rows, find_leaks
from manylabel_train.data.near_duplicates import find_near_duplicates
from manylabel_train.data.splits import SPLITS, assign_splits, label_frequencies, prepare_splits, stratify
from manylabel_train.data.training_run import read_run
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

SIZES = (800, 100, 100)


def skewed(n: int, *, seed: int) -> NDArray[np.bool_]:
    """Return ten labels, from half of all rows down to 1 in 200, some of them correlated."""
    draw = np.random.default_rng(seed)
    common = draw.random((n, 1))
    return (0.7 * draw.random((n, 10)) + 0.3 * common) < np.geomspace(0.5, 0.1, 10)


def count_per_part(parts: NDArray[np.intp], positives: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Count the rows of each label in each part, shape `(3, n_labels)`."""
    return np.stack([positives[parts == part].sum(axis=0) for part in range(3)])


# Stratification


@pytest.mark.parametrize("seed", range(5))
def test_stratify_keeps_label_proportions_in_each_split(seed: int) -> None:
    positives = skewed(1000, seed=seed)
    parts = stratify(positives, np.arange(1000), SIZES, seed=seed)
    assert np.bincount(parts).tolist() == list(SIZES)
    due = np.outer(np.array(SIZES) / 1000, positives.sum(axis=0))
    assert np.abs(count_per_part(parts, positives) - due).max() <= 2
    at_random = np.random.default_rng(seed).permutation(np.repeat(range(3), SIZES))
    assert (
        np.abs(count_per_part(at_random, positives) - due).max() > 4
    )  # the control: a random split violates the bound above


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_stay_together_and_the_seed_decides(data: st.DataObject) -> None:
    n, n_labels = data.draw(st.integers(10, 60)), data.draw(st.integers(1, 5))
    draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
    positives = draw.random((n, n_labels)) < draw.random(n_labels)
    groups = draw.integers(0, data.draw(st.integers(1, n)), n)
    sizes = (n - 2 * (n // 10), n // 10, n // 10)
    parts = stratify(positives, groups, sizes, seed=1)
    assert set(parts.tolist()) <= {0, 1, 2}
    assert all(len(set(parts[groups == group].tolist())) == 1 for group in groups)
    assert np.array_equal(parts, stratify(positives, groups, sizes, seed=1))
    assert np.abs(np.bincount(parts, minlength=3) - sizes).max() < max(np.bincount(groups))


def test_stratify_differs_with_the_seed() -> None:
    positives = skewed(1000, seed=0)
    one, other = (stratify(positives, np.arange(1000), SIZES, seed=seed) for seed in (1, 2))
    assert (one != other).sum() > 100


@pytest.mark.parametrize(("count", "trained", "held_out"), [(1, 1, 0), (2, 2, 0), (10, 8, 2)])
def test_rare_label_rows_go_to_training_first(count: int, trained: int, held_out: int) -> None:
    positives = np.zeros((100, 1), dtype=bool)
    positives[:count] = True
    found = count_per_part(stratify(positives, np.arange(100), (80, 10, 10), seed=3), positives)[:, 0]
    assert (found[0], found[1:].sum()) == (trained, held_out)


def test_stratify_assigns_rows_without_labels() -> None:
    parts = stratify(np.zeros((50, 2), dtype=bool), np.arange(50), (40, 5, 5), seed=0)
    assert np.bincount(parts).tolist() == [40, 5, 5]


# Data without splits


def duplicated() -> Dataset:
    """Return 200 texts and 100 duplicates of some, half of them slightly edited."""
    rows = toy.dataset(200)
    some = rows.take([row % 50 for row in range(100)])
    edited = [text + "!" if at % 2 else text.upper() for at, text in enumerate(some.texts)]
    return Dataset(
        (*rows.texts, *edited), np.concatenate([rows.targets, some.targets]), rows.labels, ("",) * (len(edited) + 200)
    )


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_stay_in_one_split(seed: int) -> None:
    data, report = prepare_splits(duplicated(), seed=seed)
    near = find_near_duplicates(data.texts).near
    assert len(set(near.tolist())) < 280
    sides = {(group, part) for group, part in zip(near.tolist(), data.split, strict=True)}
    assert len(sides) == len(set(near.tolist()))
    assert [data.split.count(part) for part in SPLITS] == [240, 30, 30]
    assert (report["leaks"], report["dropped"]) == ({}, 0)
    assert report["made"].startswith("iterative stratification")


def test_split_report_lists_shares_per_label() -> None:
    data, report = prepare_splits(replace(toy.dataset(600), split=("",) * 600), seed=0)
    assert report["shares"].keys() == set(data.labels)
    for label, shares in report["shares"].items():
        assert tuple(shares) == SPLITS
        everywhere = data.targets[:, data.labels.index(label)].mean()
        assert all(share == pytest.approx(everywhere, abs=0.03) for share in shares.values())


def test_empty_split_has_no_share() -> None:
    data = Dataset(("x", "y"), np.ones((2, 1), dtype=np.float32), ("a",), ("train", "validation"))
    assert label_frequencies(data) == {"a": {"train": 1.0, "validation": 1.0}}


def test_texts_that_are_all_the_same_cannot_be_split() -> None:
    data = Dataset(("Fine", "fine!") * 10, np.ones((20, 1), dtype=np.float32), ("a",))
    with pytest.raises(DataError, match="only 1 of the 20 texts are distinct"):
        assign_splits(data, seed=0)


# Given splits


TEXTS = {
    "The parcel was late, and nobody at the hotline could say why": "train",
    "Cheap, and it broke on the second day of our holiday": "train",
    "The app is slow and very broken on my old phone": "train",
    "CHEAP, and it broke on the second day of our holiday": "validation",
    "the invoice was right": "validation",
    "Update: the parcel was late, and nobody at the hotline could say why": "test",
    "The invoice was right": "test",
}


def leaking() -> Dataset:
    targets = np.ones((len(TEXTS), 1), dtype=np.float32)
    return Dataset(tuple(TEXTS), targets, ("a",), tuple(TEXTS.values()))


def test_leakage_counts_and_example_rows() -> None:
    data = leaking()
    assert find_leaks(data, find_near_duplicates(data.texts)) == {
        "train/validation": {"exact": 1, "near": 0, "rows": [[2, 4]]},
        "train/test": {"exact": 0, "near": 1, "rows": [[1, 6]]},
        "validation/test": {"exact": 1, "near": 0, "rows": [[5, 7]]},
    }


def test_leakage_warning_has_counts_and_next_step() -> None:
    with pytest.warns(UserWarning, match="the splits share texts") as caught:
        prepare_splits(leaking(), seed=0)
    (warning,) = caught
    message = str(warning.message)
    assert "of 2 validation texts, 1 are also in train and 0 more are near-duplicates of texts there" in message
    assert "of 2 test texts, 0 are also in train and 1 more are near-duplicates of texts there" in message
    assert message.endswith("Pass --drop-leaked to leave such rows out of training.")


def test_drop_leaked_removes_training_rows_only() -> None:
    with pytest.warns(UserWarning, match="1 are also in validation and 0 more are near-duplicates of texts there.$"):
        data, report = prepare_splits(leaking(), seed=0, drop_leaked=True)
    assert Counter(data.split) == {"train": 1, "validation": 2, "test": 2}
    assert report["dropped"] == 2
    assert not {pair for pair in find_leaks(data, find_near_duplicates(data.texts)) if "train" in pair}


def test_drop_leaked_rejects_empty_training_split() -> None:
    data = Dataset(("x", "x"), np.ones((2, 1), dtype=np.float32), ("a",), ("train", "validation"))
    with pytest.raises(DataError, match="no train rows"):
        prepare_splits(data, seed=0, drop_leaked=True)


def test_clean_splits_give_no_warning() -> None:
    data = toy.dataset(40, per_split=4)
    settled, report = prepare_splits(data, seed=0, drop_leaked=True)
    assert settled.digest() == data.digest()
    assert (report["made"], report["leaks"], report["dropped"]) == ("given", {}, 0)


def test_run_reports_its_splits(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(160)
    texts = (data.texts[100], *data.texts[1:])  # a validation row becomes a duplicate of a test row
    config = TrainConfig(**{**toy.RECIPE, "epochs": 1})
    with pytest.warns(UserWarning, match="of 60 test texts, 1 are also in validation"):
        train(replace(data, texts=texts), tmp_path / "run", model=str(encoder), config=config)
    report = read_run(tmp_path / "run").details["splits"]
    assert report["leaks"]["validation/test"]["rows"] == [[1, 101]]
    assert report["shares"]["price"].keys() == set(SPLITS)


# Real data


@pytest.mark.real_data
def test_finds_known_duplicates_across_goemotions_splits(data_folder: Path) -> None:
    """SOURCE.md counts byte-identical texts: 41 between train and dev, 32 between train and test."""
    data = read_dataset(data_folder / "goemotions" / "data.csv")
    texts = {part: set(data.part(part).texts) for part in SPLITS}
    leaks = find_leaks(data, copies := find_near_duplicates(data.texts))
    for pair, known in (("train/validation", 41), ("train/test", 32)):
        former, later = pair.split("/")
        assert len(texts[former] & texts[later]) == known
        assert leaks[pair]["exact"] >= known
    dropped = drop_leaked_rows(data, copies)
    assert not set(dropped.part("train").texts) & (texts["validation"] | texts["test"])
    assert dropped.part("test").texts == data.part("test").texts


@pytest.mark.real_data
def test_finds_known_duplicate_across_steam_splits(data_folder: Path) -> None:
    data = read_dataset(data_folder / "steam_review_aspect" / "data.csv")
    leaks = find_leaks(data, find_near_duplicates(data.texts))
    assert leaks["train/test"]["exact"] == 1
    assert "train/validation" not in leaks


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["goemotions", "steam_review_aspect"])
def test_stratify_keeps_proportions_on_real_data(data_folder: Path, name: str) -> None:
    data = read_dataset(data_folder / name / "data.csv")
    found = assign_splits(replace(data, split=("",) * len(data)), seed=7)
    counts = np.stack([found.part(part).targets.sum(axis=0) for part in SPLITS])
    due = np.outer((0.8, 0.1, 0.1), data.targets.sum(axis=0))
    assert (np.abs(counts - due) <= np.maximum(2, 0.04 * due)).all()
