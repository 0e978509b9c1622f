"""The benchmark measures what it says, of whom it says, and writes it down."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manylabel import Bundle, Classifier
from manylabel_bench import report
from manylabel_bench.machine import describe
from manylabel_export import checkpoint
from manylabel_export.exporting import export
from manylabel_export.pooling import with_pooling
from tiny import LABELS, TEXTS, write_checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty texts, forty of them for test, their labels in another order than the bundle's."""
    path = tmp_path_factory.mktemp("data") / "texts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels", "split"])
        for row, text in enumerate(TEXTS):
            labels = "|".join(label for at, label in enumerate(reversed(LABELS)) if (row >> at) & 1)
            writer.writerow([text, labels, "test" if row < 40 else "train"])
    return path


Result = tuple[dict[str, Any], Path]


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "manylabel", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def result(bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One comparison with all contenders, and the folder of its report."""
    folder = tmp_path_factory.mktemp("bench")
    checkpoint = write_checkpoint(folder / "checkpoint")
    done = bench(
        *(bundle, "--data", data, "--checkpoint", checkpoint, "--rounds", 2, "--json"),
        *("--threads", 1, "--output", folder / "results", "--title", "Tiny"),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder / "results"


def test_all_contenders_are_measured_on_the_test_split(result: Result) -> None:
    document = result[0]
    assert [one["name"] for one in document["contenders"]] == [
        "manylabel fp32",
        "manylabel int8",
        "pytorch",
        "pipeline",
    ]
    assert document["texts"] == 40
    for one in document["contenders"]:
        assert len(one["texts_per_second"]["all"]) == 2
        assert all(
            figure > 0 for figure in (one["texts_per_second"]["median"], one["peak_rss_mb"], one["load_seconds"])
        )


def test_everyone_scores_in_the_same_columns(result: Result) -> None:
    """Columns mixed up between the pipeline, PyTorch, the data and the bundle would show as a difference."""
    for one in result[0]["contenders"]:
        assert one["max_difference"] < (0.1 if "int8" in one["name"] else 1e-5)
    by_name = {one["name"]: one for one in result[0]["contenders"]}
    assert result[0]["bundle"]["parity"]["fp32"]["flipped"] == 0
    assert by_name["manylabel fp32"]["at_half"] == by_name["pytorch"]["at_half"] == by_name["pipeline"]["at_half"]
    assert by_name["manylabel fp32"]["macro_f1"] == by_name["pytorch"]["macro_f1"] == by_name["pipeline"]["macro_f1"]


def test_the_accuracy_is_that_of_the_bundles_own_decisions(result: Result, bundle: Path, data: Path) -> None:
    with data.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    predicted = Classifier.load(bundle, precision="fp32").predict([row["text"] for row in rows])
    truth = [set(row["labels"].split("|")) - {""} for row in rows]
    hits = sum(len(set(found) & given) for found, given in zip(predicted, truth, strict=True))
    total = sum(map(len, predicted)) + sum(map(len, truth))
    (fp32,) = [one for one in result[0]["contenders"] if one["name"] == "manylabel fp32"]
    assert fp32["micro_f1"] == pytest.approx(2 * hits / total)


def test_int8_is_found_the_same_alone_and_in_company(result: Result) -> None:
    assert result[0]["same_alone_and_in_company"]["int8"] is True


def test_the_report_is_written_as_json_beside_markdown(result: Result) -> None:
    document, folder = result
    written = json.loads((folder / "result.json").read_text())
    assert written.pop("command").startswith("manylabel bench ")
    assert written == document
    text = (folder / "README.md").read_text()
    assert text.startswith("# Tiny\n")
    assert all(f"| {one['name']} |" in text for one in document["contenders"])


def test_without_a_checkpoint_the_bundle_is_measured_alone(bundle: Path, data: Path) -> None:
    done = bench(bundle, "--data", data, "--rounds", 1, "--limit", 5)
    assert done.returncode == 0, done.stderr
    assert "manylabel int8" in done.stdout
    assert "pytorch" not in done.stdout
    assert "not measured" in done.stdout


def test_data_with_other_labels_is_refused_in_a_sentence(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("text,labels\nhello,spam\n")
    done = bench(bundle, "--data", tmp_path / "other.csv")
    assert done.returncode == 2
    assert "spam" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_contender_that_dies_is_named(bundle: Path, data: Path, tmp_path: Path) -> None:
    done = bench(bundle, "--data", data, "--checkpoint", tmp_path / "nothing", "--rounds", 1)
    assert done.returncode == 2
    assert "pytorch" in done.stderr.splitlines()[-1]


def test_medians_and_ratios_in_the_table() -> None:
    contender = {
        "single_text_ms": {"p50": 2.0, "p90": 3.0, "p99": 4.0},
        "peak_rss_mb": 100.0,
        "micro_f1": 0.5,
        "macro_f1": 0.25,
    }
    result = {
        "contenders": [
            {"name": "manylabel int8", "texts_per_second": {"median": 1000.0}, "max_difference": 0.01, **contender},
            {"name": "pipeline", "texts_per_second": {"median": 100.0}, **contender},
        ]
    }
    first, second = report.rows(result)
    assert first == ["manylabel int8", "1,000", "10.0x", "2.0", "4.0", "100", "0.5000", "0.2500", "1.0e-02"]
    assert second[2] == "1.0x"
    assert second[-1] == "not measured"


def test_the_machine_is_described() -> None:
    found = describe()
    assert found["cores"] >= 1
    assert {"onnxruntime", "numpy"} <= set(found["versions"])


def test_the_labels_of_the_tiny_bundle_are_in_its_columns(bundle: Path) -> None:
    assert Bundle.open(bundle).labels == LABELS
    assert np.array_equal(Classifier.load(bundle).classes_, LABELS)


def test_a_run_whose_head_reads_the_mean_is_measured_like_any_other(data: Path, tmp_path: Path) -> None:
    """Its model type is one that transformers knows from us alone."""
    plain, _ = checkpoint.load_model(str(write_checkpoint(tmp_path / "run")))
    with_pooling(plain, "mean").save_pretrained(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"])
    done = bench(tmp_path / "bundle", "--data", data, "--checkpoint", tmp_path / "run", "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["contenders"]
    assert [one["name"] for one in found] == ["manylabel fp32", "pytorch", "pipeline"]
    assert all(one["max_difference"] < 1e-5 for one in found)


def test_labels_that_are_not_listed_may_be_unknown(bundle: Path, data: Path) -> None:
    """Nothing is known to be absent then, and so nothing can be given wrongly."""
    absent, unknown = (
        json.loads(bench(bundle, "--data", data, "--rounds", 1, "--limit", 20, "--json", *more).stdout)
        for more in ((), ("--unlisted", "unknown"))
    )
    for one, other in zip(absent["contenders"], unknown["contenders"], strict=True):
        missed = other["hamming_loss"]
        assert 0 < missed < 1
        assert one["micro_f1"] < other["micro_f1"] == pytest.approx(2 * (1 - missed) / (2 - missed))
