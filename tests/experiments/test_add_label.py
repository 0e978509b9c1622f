"""The experiment on adding a label hides the right labels, trains in four ways, and resumes."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.add_label.run import WAYS, main, split_labels, table_rows
from manylabel_train.training import train as training


def test_halves_know_old_or_new_labels() -> None:
    data = toy.dataset(401)
    old, new = split_labels(data, "price", seed=1)
    assert old.labels == ("billing", "delivery", "user experience")
    assert new.labels == ("price",)
    learned = [set(half.part("train").texts) for half in (old, new)]
    assert sum(map(len, (old.part("train"), new.part("train")))) == 281
    assert learned[0] | learned[1] == set(data.part("train").texts)
    for half in (old, new):
        assert half.part("test").texts == data.part("test").texts
    np.testing.assert_array_equal(new.part("test").targets[:, 0], data.part("test").targets[:, 2])


def test_means_over_seeds() -> None:
    run = {"way": "before", "old_macro_f1": 0.5, "new_f1": None, "old_decisions_kept": None}
    assert list(table_rows([run, run | {"old_macro_f1": 0.7}])) == [["before", "0.6000 ± 0.1414", "", ""]]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_methods_are_measured_once(tmp_path: Path) -> None:
    data, encoder = toy.write_csv(tmp_path / "data.csv", toy.dataset(260)), toy.write_encoder(tmp_path / "encoder")
    before = training.score_with_teacher
    options = ["--data", data, "--label", "price", "--output", tmp_path / "out", "--model", encoder, "--title", "Toy"]
    words = [str(each) for each in (*options, "--epochs", 1, "--seed", 1)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert training.score_with_teacher is before
    assert [run["way"] for run in json.loads((tmp_path / "out" / "result.json").read_text())["runs"]] == list(WAYS)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| --add-label | 0." in text
    assert "--label price --output FOLDER --title Toy --epochs 1 --seed 1`" in text
    assert "seed" not in CliRunner().invoke(main, words).stdout
