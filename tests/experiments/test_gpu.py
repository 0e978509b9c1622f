"""The GPU experiment, run on the CPU: one command compares accuracy and speed, and writes a result and a table."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers.cuda import Cuda, use
from tests.helpers.toy import RECIPE, dataset, write_csv, write_encoder

from experiments.gpu.run import build_table, bundle_predictors, compare_scores, main


def test_agreement_counts_flips() -> None:
    thresholds = np.full(2, 0.5, dtype=np.float32)
    found = compare_scores(np.float32([[0.4, 0.9]]), np.float32([[0.6, 0.8]]), thresholds)
    assert found == {"greatest": pytest.approx(0.2), "mean": pytest.approx(0.15), "flipped": 1}


def test_gpu_ratio_uses_the_fastest_pytorch() -> None:
    off = {"greatest": 0.0, "mean": 0.0, "flipped": 0}
    speeds = {"manylabel fp16": 300.0, "PyTorch a": 100.0, "PyTorch b": 150.0}
    ways = {
        name: {"texts_per_second": {"median": speed}, "p50_ms": 1.0, "p99_ms": 2.0, "against_fp32": off}
        for name, speed in speeds.items()
    }
    assert [row[2] for row in build_table(ways)[1:]] == ["2.00x", "0.67x", "1.00x"]


def test_gpu_contenders_with_and_without_cuda_graphs(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cuda())
    ways = bundle_predictors(bundle, 1, "cuda")
    assert len(ways) == 4
    assert "manylabel fp16, CUDA graphs" in ways
    texts = ("late", "the parcel was late")
    assert len({way(texts).tobytes() for way in ways.values()}) == 1


def test_gpu_command_measures_all_contenders(tmp_path: Path) -> None:
    from manylabel_export.pipeline import export
    from manylabel_train.training.config import TrainConfig
    from manylabel_train.training.train import train

    train(dataset(), tmp_path / "run", model=str(write_encoder(tmp_path / "encoder")), config=TrainConfig(**RECIPE))
    export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"])
    data = write_csv(tmp_path / "data.csv", dataset())
    options = ["--checkpoint", tmp_path / "run", "--data", data, "--device", "cpu", "--rounds", 2, "--limit", 40]
    words = [tmp_path / "bundle", *options, "--output", tmp_path / "result"]
    done = CliRunner().invoke(main, [str(each) for each in words], catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert len(result["ways"]) == 6
    ours = [each for name, each in result["ways"].items() if name.startswith("manylabel fp32")]
    assert len(ours) == 3
    assert all(each["against_fp32"]["greatest"] < 1e-5 for each in ours)
    assert all(each["texts_per_second"]["median"] > 0 for each in result["ways"].values())
    assert all(name in done.stdout for name in result["ways"])
    assert "| manylabel fp32" in (tmp_path / "result" / "README.md").read_text()
