"""The result of calibration and threshold objectives agrees with the run's own figures."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.calibration.guarantee_coverage import GUARANTEES, MINIMUMS
from experiments.calibration.run import METHODS, main
from manylabel_train.data.training_run import read_run
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_uncalibrated_scores_are_restored(tmp_path: Path) -> None:
    encoder, data = toy.write_encoder(tmp_path / "encoder", pooler=False), toy.dataset(600, per_split=150)
    path = toy.write_csv(tmp_path / "data.csv", data)
    train(
        data,
        tmp_path / "run",
        model=str(encoder),
        config=TrainConfig(**{**toy.RECIPE, "epochs": 6}),
        calibration="platt",
    )
    arguments = [tmp_path / "run", "--data", path, "--output", tmp_path / "result", "--title", "Toy"]
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert [row["method"] for row in result["methods"]] == list(METHODS)
    said = read_run(tmp_path / "run").details["calibration"]["error"]
    assert result["methods"][0]["error_test"] == pytest.approx(said["test"]["before"]["mean"], abs=1e-3)
    assert result["methods"][2]["error_test"] == pytest.approx(said["test"]["after"]["mean"], abs=1e-3)
    assert (tmp_path / "result" / "README.md").read_text().startswith("# Toy\n")
    asked = [row["goal"] for kind in ("floors", "guarantees") for row in result[kind]]
    assert asked == [str(goal) for goal in (*MINIMUMS, *GUARANTEES)]
