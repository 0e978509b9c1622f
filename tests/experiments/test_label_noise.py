"""The label noise experiment removes labels, counts how many are suggested again, and writes its result."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.label_noise.run import main, precision_at_n, remove_labels
from manylabel_train.review.confident_learning import LabelIssues


def test_label_noise_removes_the_given_share() -> None:
    data = toy.dataset(400)
    left, removed = remove_labels(data, 0.25, seed=0)
    assert removed.sum() == int(0.25 * data.targets.sum())
    np.testing.assert_array_equal(left.targets + removed, data.targets)
    assert not np.array_equal(remove_labels(data, 0.25, seed=1)[1], removed)


def test_precision_at_k_of_removed_labels() -> None:
    removed = np.zeros((400, 1), dtype=bool)
    removed[:25] = True
    found = LabelIssues(np.arange(400), np.zeros(400, dtype=np.intp), np.linspace(1, 0, 400))
    assert precision_at_n(found, removed) == {"50": 0.5, "100": 0.25, "200": 0.125, "400": 0.0625}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_measurement_writes_its_result(tmp_path: Path) -> None:
    data, encoder = toy.write_csv(tmp_path / "data.csv", toy.dataset(300)), toy.write_encoder(tmp_path / "encoder")
    options = ["--output", tmp_path / "out", "--title", "Toy", "--model", encoder, "--epochs", 1, "--folds", 2]
    done = CliRunner().invoke(main, [str(each) for each in (data, *options, "--seed", 3)])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [set(run["precision"]) for run in result["runs"]] == [{"quick", "retrained", "retrained and quick"}]
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("# Finding labels that were removed: Toy\n")
    assert f"| quick | 3 | {result['runs'][0]['precision']['quick']['50']:.3f} |" in text
    assert f"--title Toy --share 0.1 --model {encoder} --epochs 1 --folds 2 --seed 3`" in text
