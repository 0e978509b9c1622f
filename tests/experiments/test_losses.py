"""The comparison of losses hides the right labels, resumes, and its table shows its runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.common.multi_seed import take_training_rows
from experiments.losses.run import CEILING, COMPARISON, SETTINGS, keep_one_label, main
from manylabel_train.training.losses import LOSSES


def test_single_positive_setting_keeps_one_label() -> None:
    data = toy.dataset(400)
    hidden = keep_one_label(data, seed=1)
    training = np.array(data.split) == "train"
    np.testing.assert_array_equal(hidden.targets[~training], data.targets[~training])
    left = hidden.targets[training]
    assert not (left == 0).any()
    assert ((left == 1) <= (data.targets[training] == 1)).all()
    np.testing.assert_array_equal((left == 1).sum(axis=1), data.targets[training].any(axis=1))
    assert not np.array_equal(keep_one_label(data, seed=2).targets, hidden.targets, equal_nan=True)


def test_cut_takes_training_rows_only() -> None:
    data = toy.dataset(400)
    part = take_training_rows(data, 50)
    assert [part.split.count(name) for name in ("train", "validation", "test")] == [50, 60, 60]
    assert part.part("test").digest() == data.part("test").digest()
    assert take_training_rows(data, 50).digest() == part.digest()


def test_every_loss_has_its_setting() -> None:
    assert {CEILING, *LOSSES} == {name for names in SETTINGS.values() for name in names}


def test_means_and_spreads_over_seeds() -> None:
    def run(seed: int, value: float) -> dict[str, object]:
        figures = dict.fromkeys(("macro_f1", "micro_f1", "macro_average_precision"), value)
        return {"loss": "focal", "seed": seed, "tuned": figures, "at_half": figures}

    (row,) = COMPARISON.table_rows([run(1, 0.5), run(2, 0.7)], ["bce", "focal"])
    assert row == ["focal", *["0.6000 ± 0.1414"] * 5, "1, 2"]
    (row,) = COMPARISON.table_rows([run(1, 0.5)], ["focal"])
    assert row[1] == "0.5000"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_measured_runs_are_not_repeated(tmp_path: Path) -> None:
    data, encoder = toy.write_csv(tmp_path / "data.csv", toy.dataset(200)), toy.write_encoder(tmp_path / "encoder")
    options = ["--data", data, "--output", tmp_path / "results", "--model", encoder, "--title", "Toy", "--epochs", 1]
    more = ["single-positive", *options, "--seed", 1, "--loss", CEILING]
    for losses in ([], ["--loss", "role"], []):
        done = CliRunner().invoke(main, [str(each) for each in (*more, *losses)])
        assert done.exit_code == 0, done.output
    assert "seed" not in done.stdout
    result = json.loads((tmp_path / "results" / "result.json").read_text())
    assert [(run["loss"], run["seed"]) for run in result["runs"]] == [(CEILING, 1), ("role", 1)]
    assert [run["recipe"]["loss"] for run in result["runs"]] == ["bce", "role"]
    text = (tmp_path / "results" / "README.md").read_text()
    assert text.startswith("# Toy\n")
    assert "| role |" in text
    assert f"--epochs 1 --seed 1 --loss '{CEILING}' --loss role`" in text
    assert "Not measured yet: assume-negative; smoothed-negative; weak-negative; expected-positives." in text
    assert "Fewer than 3 seeds" in text
