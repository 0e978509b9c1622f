"""The comparison of ways of training uses one configuration per way, resumes, and its table shows its runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.train_recipes.run import COMPARISON, SETTINGS, main
from manylabel_train.training.config import TrainConfig


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_method_has_its_own_config(setting: str) -> None:
    recipes = [replace(TrainConfig(), **changes) for changes in SETTINGS[setting].values()]
    assert len(set(recipes)) == len(recipes) > 1


def test_means_and_spreads_over_seeds() -> None:
    def run(seed: int, value: float) -> dict[str, object]:
        figures = dict.fromkeys(("macro_f1", "micro_f1", "macro_average_precision"), value)
        at = {"tuned": figures, "at_half": figures}
        return {"way": "b", "seed": seed, "validation": at, "test": at}

    (row,) = COMPARISON.table_rows([run(1, 0.5), run(2, 0.7)], ["a", "b"])
    assert row == ["b", *["0.6000 ± 0.1414"] * 5, "1, 2"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_measured_runs_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {f"{length} tokens": {"max_length": length} for length in (16, 24, 32)}
    monkeypatch.setitem(SETTINGS, "long-texts", ways)
    data, encoder = toy.write_csv(tmp_path / "data.csv", toy.dataset(200)), toy.write_encoder(tmp_path / "encoder")
    options = ["--data", data, "--output", tmp_path / "results", "--model", encoder, "--title", "Toy", "--epochs", 1]
    for way, done in (("16 tokens", 1), ("24 tokens", 1), ("16 tokens", 0)):
        result = CliRunner().invoke(main, [str(each) for each in ("long-texts", *options, "--seed", 1, "--way", way)])
        assert result.exit_code == 0, result.output
        assert result.stdout.count("validation macro_f1") == done
    measured = json.loads((tmp_path / "results" / "result.json").read_text())["runs"]
    assert [(run["way"], run["recipe"]["max_length"]) for run in measured] == [("16 tokens", 16), ("24 tokens", 24)]
    text = (tmp_path / "results" / "README.md").read_text()
    assert text.startswith("# Toy\n")
    assert "--epochs 1 --seed 1 --way '16 tokens' --way '24 tokens'`" in text
    assert "Not measured yet: 32 tokens." in text
    assert "Fewer than 3 seeds" in text
