"""Each budget is met or the variant is refused, and the result is evaluated on other texts."""

import json
from pathlib import Path

from click.testing import CliRunner
from tests.helpers import toy

from experiments.mixed_precision_budget import run as rescue
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train


def test_budget_holds_or_export_fails(tmp_path: Path) -> None:
    data, run = toy.dataset(360), tmp_path / "run"
    encoder = toy.write_encoder(tmp_path / "encoder", layers=2)
    train(data, run, model=str(encoder), config=TrainConfig(**toy.RECIPE | {"epochs": 2}))
    words = [str(run), "--data", str(toy.write_csv(tmp_path / "data.csv", data)), "--output", str(tmp_path)]
    CliRunner().invoke(rescue.main, [*words, "--title", "Toys", "--flips", "1", "--flips", "0"], catch_exceptions=False)
    runs = json.loads((tmp_path / "result.json").read_text())["runs"]
    assert [each["flips"] for each in runs] == [1, 0]
    assert runs[0]["kept"] == []
    assert "refused" in runs[1] or runs[1]["validation"]["flips"] == 0
    page = (tmp_path / "README.md").read_text()
    assert "| 100.00% | " in page
    assert "| 0.00% | " in page
