"""Mixed precision: harmful layers stay in fp32, and a variant that still exceeds its budget is left out."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.helpers import toy
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from manylabel import Bundle, Classifier
from manylabel.bundle.certificate import Budget
from manylabel.bundle.variants import PROBE_TOLERANCE
from manylabel.cli.main import main
from manylabel.errors import BudgetExceeded
from manylabel_export import mixed_precision
from manylabel_export.mixed_precision import rank_layers
from manylabel_export.pipeline import export
from manylabel_train.data.dataset import Dataset

VALIDATION = toy.dataset(180).part("train")
LAYER = "bert/encoder/layer.0/"
HUGE = 1e4


def poison(checkpoint: Path, folder: Path, *modules: str) -> Path:
    """Return a copy of the checkpoint with layers that int8 cannot represent.

    One input of such a layer is always 0, and its weights for this input are huge: in fp32 they add nothing, in int8
    they determine the step of all others.
    """
    shutil.copytree(checkpoint, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        for module in modules:
            _silence(model, module)
            model.get_submodule(module.replace("/", ".")).weight[:, 0] = HUGE
    model.save_pretrained(folder)
    return folder


def _silence(model: BertForSequenceClassification, module: str) -> None:
    """Make the first input of a layer 0."""
    layer = model.bert.encoder.layer[0]
    if module == LAYER + "output/dense":
        layer.intermediate.dense.bias[0] = -100  # and its GELU is 0
        return
    before = {
        LAYER + "attention/output/dense": layer.attention.self.value,
        LAYER + "intermediate/dense": layer.attention.output.LayerNorm,
        "bert/pooler/dense": layer.output.LayerNorm,
    }.get(module, model.bert.embeddings.LayerNorm)
    before.weight[0] = 0
    before.bias[0] = 0


ALL = (
    *(f"{LAYER}attention/self/{name}" for name in ("query", "key", "value")),
    *(LAYER + name for name in ("attention/output/dense", "intermediate/dense", "output/dense")),
    "bert/pooler/dense",
)


@pytest.fixture(scope="module")
def poisoned(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with one layer that int8 cannot represent."""
    return poison(elsewhere, tmp_path_factory.mktemp("poisoned") / "checkpoint", LAYER + "output/dense")


def test_model_within_budget_is_unchanged(elsewhere: Path, tmp_path: Path) -> None:
    bundle = export(elsewhere, tmp_path / "bundle", validation=VALIDATION)
    assert [variant.rescue for variant in bundle.manifest.variants] == [None] * 3
    assert bundle.manifest.certificate.refused == {}
    assert bundle.manifest.certificate.budget == Budget(0.005, 0.02)


@pytest.mark.parametrize("budget", [None, Budget(1, 1)])
def test_wider_or_no_budget_changes_nothing(
    poisoned: Path, tmp_path: Path, budget: Budget | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROBE_TOLERANCE, "int8", 1.0)
    bundle = export(poisoned, tmp_path / "bundle", validation=VALIDATION, precisions=["int8"], budget=budget)
    assert Budget().excess(bundle.manifest.certificate.parity["int8"])
    assert bundle.variants["int8"].rescue is None


def test_only_the_harmful_layer_stays_in_fp32(poisoned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="manylabel.export")
    bundle = export(poisoned, tmp_path / "bundle", validation=VALIDATION, precisions=["fp32", "int8"])
    rescue = Bundle.open(bundle.path).variants["int8"].rescue
    assert rescue is not None
    assert rescue.kept == (LAYER + "output/dense",)
    assert rescue.products == len(ALL)
    assert re.match(
        r"\d+ of \d+ texts with at least one label get other labels, [1-9]\d\.\d\d%, and 2.00% are", rescue.reason
    )
    assert rescue.slowdown > 0
    parity = bundle.manifest.certificate.parity["int8"]
    assert Budget().excess(parity) == ""
    assert parity.alone.same == parity.alone.tried == 32
    for message in (
        "int8 exceeds its budget",
        "rounding only bert/encoder/layer.0/output/dense changes",
        "times as long",
    ):
        assert message in caplog.text
    for name in ("README.md", "report.html"):
        assert LAYER + "output/dense" in (bundle.path / name).read_text()
    assert "1 of 7 linear layers stay in fp32" in CliRunner().invoke(main, ["inspect", str(bundle.path)]).output


@pytest.mark.parametrize("validation", [VALIDATION, None])
def test_wrong_probe_answer_triggers_mixed_precision(
    poisoned: Path, tmp_path: Path, validation: Dataset | None
) -> None:
    """With and without validation texts, and with any budget."""
    bundle = export(poisoned, tmp_path / "bundle", validation=validation, precisions=["int8"], budget=None)
    rescue = bundle.variants["int8"].rescue
    assert rescue is not None
    assert re.match(r"it gives \d\.\d{4} for '[a-z ]+' where PyTorch gave \d\.\d{4} \(text '", rescue.reason)
    assert LAYER + "output/dense" in rescue.kept
    Classifier.load(bundle.path, device="cpu").check_probes()


def test_variant_with_wrong_probes_is_left_out(hopeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "MAX_FP32_SHARE", 0.0)
    bundle = export(hopeless, tmp_path / "bundle", precisions=["fp32", "int8"])
    assert list(bundle.variants) == ["fp32"]
    assert "it gives" in bundle.manifest.certificate.refused["int8"]


def test_fp16_overflowing_layers_stay_in_fp32(elsewhere: Path, tmp_path: Path) -> None:
    """Without calibration texts, overflows are found only when the graph is evaluated."""
    shutil.copytree(elsewhere, tmp_path / "checkpoint")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint")
    with torch.no_grad():  # a normalisation brings values beyond the range of fp16 back
        dense = model.bert.encoder.layer[0].output.dense
        dense.weight *= 3e4 / dense.weight.abs().max()
    model.save_pretrained(tmp_path / "checkpoint")
    bundle = export(tmp_path / "checkpoint", tmp_path / "bundle", precisions=["fp16"])
    rescue = bundle.variants["fp16"].rescue
    assert rescue is not None
    assert rescue.kept == (LAYER + "output/dense",)
    assert rescue.slowdown is None
    assert bundle.manifest.certificate.parity["fp16"].max_difference < 0.01
    output = CliRunner().invoke(main, ["inspect", str(bundle.path)]).output
    assert f"1 of {rescue.products} linear layers stay in fp32 (its speed was not measured)" in output


def test_mixed_precision_is_batch_invariant(poisoned: Path, tmp_path: Path) -> None:
    bundle = export(poisoned, tmp_path / "bundle", validation=VALIDATION, precisions=["int8"])
    classifier = Classifier.load(bundle.path, device="cpu")
    texts = [text for text, _ in toy.examples(100, seed=9)]
    together = classifier.predict_proba(texts)
    np.testing.assert_array_equal(together, np.concatenate([classifier.predict_proba(text) for text in texts]))


def test_two_harmful_layers_are_both_found(elsewhere: Path, tmp_path: Path) -> None:
    bad = {LAYER + "output/dense", LAYER + "attention/output/dense"}
    folder = poison(elsewhere, tmp_path / "checkpoint", *bad)
    bundle = export(folder, tmp_path / "bundle", validation=VALIDATION, precisions=["int8"])
    assert set(bundle.variants["int8"].rescue.kept) == bad


@pytest.fixture(scope="module")
def hopeless(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose layers int8 cannot represent."""
    return poison(elsewhere, tmp_path_factory.mktemp("hopeless") / "checkpoint", *ALL)


def test_variant_over_budget_is_left_out(
    hopeless: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "MAX_FP32_SHARE", 0.0)
    bundle = export(hopeless, tmp_path / "bundle", validation=VALIDATION)
    assert list(bundle.variants) == ["fp32", "fp16"]
    bundle.verify()
    reason = bundle.manifest.certificate.refused["int8"]
    assert "get other labels" in reason
    assert "of 7 layers in fp32; with more of them int8 would have no advantage over fp32" in reason
    assert reason in caplog.text
    assert reason.split(",")[0] in (bundle.path / "README.md").read_text()
    assert "int8 was not written" in (bundle.path / "report.html").read_text()


def test_no_variant_left_writes_nothing(hopeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "MAX_FP32_SHARE", 0.0)
    with pytest.raises(BudgetExceeded, match=r"no variant is left to write\. .*get other labels"):
        export(hopeless, tmp_path / "bundle", validation=VALIDATION, precisions=["int8"])
    assert list(tmp_path.iterdir()) == []


def test_export_command_reports_left_out_variant(
    hopeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "MAX_FP32_SHARE", 0.0)
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(300, per_split=100))
    words = ["export", str(hopeless), "-o", str(tmp_path / "bundle"), "--validation", str(data), "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 3, done.output
    assert list(json.loads(done.stdout)["refused"]) == ["int8"]
    assert "BudgetExceeded" in done.stderr.splitlines()[-1]
    assert "was written without int8" in done.stderr.splitlines()[-1]
    assert "  with 1 in fp32: " in done.stderr
    assert list(Bundle.open(tmp_path / "bundle").variants) == ["fp32", "fp16"]


def test_budget_options_widen_the_budget(poisoned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBE_TOLERANCE, "int8", 1.0)
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(300, per_split=100))
    words = ["export", str(poisoned), "-o", str(tmp_path / "bundle"), "--validation", str(data), "--precision", "int8"]
    done = CliRunner().invoke(main, [*words, "--max-flips", "1", "--max-f1-drop", "1"])
    assert done.exit_code == 0, done.output
    assert Bundle.open(tmp_path / "bundle").manifest.certificate.budget == Budget(1, 1)
    assert Bundle.open(tmp_path / "bundle").variants["int8"].rescue is None


def test_probes_alone_are_not_evidence(elsewhere: Path, tmp_path: Path) -> None:
    bundle = export(elsewhere, tmp_path / "bundle", budget=Budget(0, 0))
    assert list(bundle.variants) == ["fp32", "int8", "fp16"]
    assert bundle.manifest.certificate.budget is None


# Ranking of layers


def error_by(harm: dict[str, float], calls: list[Collection[str]]):  # type: ignore[no-untyped-def]
    def error(names: Collection[str]) -> float:
        calls.append(names)
        return sum(harm[name] for name in names)

    return error


@pytest.mark.parametrize("runs", [200, 48, 10])
def test_worst_layer_first_with_bounded_runs(runs: int) -> None:
    """With any number of runs for 145 layers: the most harmful groups are halved."""
    layers = [f"layer {at}" for at in range(145)]
    harm = {name: 1e-4 + 1e-6 * at for at, name in enumerate(layers)} | {"layer 17": 0.5}
    calls: list[Collection[str]] = []
    ranking = rank_layers(layers, error_by(harm, calls), max_runs=runs)
    assert sorted(ranking) == sorted(layers)
    assert len(calls) <= runs
    if runs >= 48:
        assert ranking[0] == "layer 17"
    else:
        assert "layer 17" in ranking[: len(layers) // (runs // 2)]


def test_few_layers_are_measured_one_by_one() -> None:
    calls: list[Sequence[str]] = []
    assert rank_layers(["a", "b", "c"], error_by({"a": 1, "b": 3, "c": 2}, calls)) == ["b", "c", "a"]
    assert [list(names) for names in calls] == [["a"], ["b"], ["c"]]


def test_layer_with_nan_ranks_worst() -> None:
    assert rank_layers(["a", "b"], error_by({"a": 1, "b": float("inf")}, []))[0] == "b"


def test_evaluations_are_bounded(hopeless: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=mixed_precision.logger.name)
    export(hopeless, tmp_path / "bundle", validation=VALIDATION, precisions=["fp32", "int8"])
    tried = [record.getMessage() for record in caplog.records if " in fp32: " in record.getMessage()]
    assert len(tried) <= 1 + 2 * np.log2(len(ALL))
