"""The comparison of int8 schemes measures every scheme of a toy run once, and resumes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from experiments.int8_bakeoff import run
from experiments.int8_bakeoff.schemes import SCHEMES, Fixed, everything_fixed
from manylabel_export.graph.analysis.calibration_stats import CalibrationStats
from manylabel_export.graph.quantization.int8 import Int8Quantiser, quantise_embeddings
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bakeoff")
    data = toy.dataset(360)
    encoder = toy.write_encoder(folder / "encoder", layers=2)  # the last is cut to one token
    train(data, folder / "run", model=str(encoder), config=TrainConfig(**toy.RECIPE | {"epochs": 2}))
    path = toy.write_csv(folder / "data.csv", data)
    return ["toy", "--run", str(folder / "run"), "--data", str(path), "--graphs", str(folder / "graphs")]


def test_every_int8_scheme_is_measured_once(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MAX_SECONDS", 0)
    options = [*words, "--output", str(tmp_path)]
    for what in ("accuracy", "speed"):
        CliRunner().invoke(run.main, [what, *options], catch_exceptions=False)
    found = json.loads((tmp_path / "result.json").read_text())["models"]["toy"]
    assert list(found) == list(SCHEMES)
    assert found["fp32"]["max_difference"] == 0
    assert all(0 < found[name]["mean_difference"] < 0.2 for name in SCHEMES if name != "fp32")
    assert found["default"]["same_alone_and_in_company"]
    assert found["row-wise"]["same_alone_and_in_company"]
    assert found["default"]["bytes"] < found["default-fp32-embeddings"]["bytes"] < found["fp32"]["bytes"]
    page = (tmp_path / "README.md").read_text()
    assert all(f"| {name} |" in page for name in SCHEMES)
    monkeypatch.setattr(run, "load_run", lambda *_: pytest.fail("everything is measured already"))
    again = CliRunner().invoke(run.main, ["accuracy", *options], catch_exceptions=False)
    assert again.exit_code == 0


@pytest.mark.parametrize("name", ["default-one-qkv", "default-tanh"])
def test_scheme_variations_match_the_default(words: list[str], name: str) -> None:
    model = run.load_run(Path(words[2]), Path(words[4]))
    ids = np.random.default_rng(0).integers(0, model.vocabulary, (5, 9))
    schemes = [SCHEMES["default"], SCHEMES[name]]
    default, varied = (run.make_runner(scheme.build(model.inputs), scheme)(ids) for scheme in schemes)
    np.testing.assert_allclose(default, varied, atol=0.02)


def test_fixed_scales_fold_into_the_matmul(words: list[str]) -> None:
    inputs = run.load_run(Path(words[2]), Path(words[4])).inputs
    plain = Int8Quantiser(quantise_embeddings(inputs.fused), inputs.stats, everything_fixed).quantise()
    folded = SCHEMES["smoothquant"].build(inputs)
    before, after = (Counter(node.op_type for node in proto.graph.node) for proto in (plain, folded))
    assert before["Mul"] - after["Mul"] == after["MatMulIntegerToFloat"] == before["MatMulIntegerToFloat"] == 13
    # one of attention and two of the feed-forward part in each layer, and the pooler's; attention adds its own to
    # queries, keys and values
    assert before["Add"] - after["Add"] == 2 * 3 + 1
    ids = inputs.batches[0]
    expected, found = (run.make_runner(each, SCHEMES["smoothquant"])(ids) for each in (plain, folded))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_fixed_scale_covers_its_fitting_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32) * [1, 3, 0.1, 40]
    fixed = Fixed.for_texts(CalibrationStats.from_activation(rows.astype(np.float32)), np.ones((4, 2), np.float32))
    found = np.clip(np.rint(rows / fixed.divisors / fixed.scale) + fixed.zero, 0, 255) - fixed.zero
    assert (np.abs(found * fixed.scale * fixed.divisors - rows) <= 1.001 * fixed.scale * fixed.divisors).all()
