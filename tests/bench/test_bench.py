"""`manylabel bench` measures the contenders that it names, on the texts that it names, and writes the result."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from click.testing import Result as Outcome
from tests.helpers.toy import LABELS, TEXTS, write_checkpoint

from experiments.int8_bakeoff import random_bert
from manylabel import Bundle, Classifier
from manylabel.cli.main import main
from manylabel_bench.hardware import describe_hardware
from manylabel_export.pipeline import export
from manylabel_train.models.checkpoint import load_model
from manylabel_train.models.pooling import set_pooling

MAX_DIFFERENCE = {"bf16": 0.1, "int8": 0.1, "optimum int8": 0.2}
"""Bounds for probabilities of the toy model, whose weights are large."""
CONTENDERS = ("manylabel fp32", "manylabel int8", "pipeline", "pytorch", "onnxruntime")


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


def bench(*arguments: object) -> Outcome:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def measured(*arguments: object) -> dict[str, Any]:
    """Return the result of a run on one thread; `manylabel int8` alone unless a contender is named."""
    named = arguments if "--contender" in arguments else (*arguments, "--contender", "manylabel int8")
    done = bench(*named, "--threads", 1, "--seconds", 0.2, "--json")
    assert done.exit_code == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def by_name(document: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in document["contenders"]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that the toy bundle was exported from."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "checkpoint")


@pytest.fixture(scope="module")
def result(bundle: Path, data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A comparison of all contenders whose packages every development environment has, and the folder of its report."""
    folder = tmp_path_factory.mktemp("bench") / "results"
    names = [word for name in CONTENDERS for word in ("--contender", name)]
    arguments = [bundle, "--data", data, "--checkpoint", checkpoint, "--rounds", 2, "--output", folder]
    return measured(*arguments, *names, "--title", "Tiny"), folder


def test_bench_measures_all_contenders_on_the_test_split(result: Result) -> None:
    document = result[0]
    assert [one["name"] for one in document["contenders"]] == list(CONTENDERS)
    assert document["texts"] == document["workload"]["labelled"] == 40
    for one in document["contenders"]:
        rates = one["texts_per_second"]
        assert len(rates["all"]) == document["rounds"] == 2
        assert rates["low"] <= rates["median"] <= rates["high"]
        latency = one["single_text_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
        assert latency["n"] == len(one["samples"]["single"])
        assert all(one[figure] > 0 for figure in ("peak_rss_mb", "load_seconds", "tokens_per_second"))
        assert one["size"]["model_mb"] > 0


def test_disk_size_with_pytorch_is_larger(result: Result) -> None:
    sizes = {name: one["size"] for name, one in by_name(result[0]).items()}
    assert sizes["pipeline"]["environment_mb"] > 2 * sizes["manylabel int8"]["environment_mb"]
    assert sizes["pipeline"]["packages"] > sizes["manylabel int8"]["packages"]


def test_contenders_share_column_order(result: Result) -> None:
    """Columns mixed up between the pipeline, PyTorch, the data and the bundle would show as a difference."""
    for one in result[0]["contenders"]:
        assert one["max_difference"] < MAX_DIFFERENCE.get(one["name"].split()[-1], 1e-5)
    exact = [by_name(result[0])[name] for name in CONTENDERS if "int8" not in name]
    assert result[0]["bundle"]["parity"]["fp32"]["flipped"] == 0
    for one in exact:
        assert one["at_half"] == exact[0]["at_half"]
        assert one["macro_f1"] == exact[0]["macro_f1"]
        assert one["decisions_as_pytorch"] == 1


def test_accuracy_uses_the_bundle_decisions(result: Result, bundle: Path, data: Path) -> None:
    with data.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    predicted = Classifier.load(bundle, precision="fp32").predict([row["text"] for row in rows])
    truth = [set(row["labels"].split("|")) - {""} for row in rows]
    hits = sum(len(set(labels) & given) for labels, given in zip(predicted, truth, strict=True))
    total = sum(map(len, predicted)) + sum(map(len, truth))
    assert by_name(result[0])["manylabel fp32"]["micro_f1"] == pytest.approx(2 * hits / total)


def test_batches_of_equal_length_have_no_padding(result: Result) -> None:
    shares = {name: one["padding_share"] for name, one in by_name(result[0]).items()}
    assert shares["manylabel int8"] == 0 < shares["pytorch"] < shares["pipeline"] < 1


def test_stage_times_of_contenders_that_report_them(result: Result) -> None:
    contenders = by_name(result[0])
    assert "stages" not in contenders["pipeline"]
    assert set(contenders["manylabel int8"]["stages"]) == {"tokenise", "run", "decide"}


def test_bench_checks_int8_batch_invariance(result: Result) -> None:
    assert result[0]["same_alone_and_in_company"]["int8"] is True


def test_report_writes_json_markdown_and_plots(result: Result) -> None:
    document, folder = result
    assert json.loads((folder / "result.json").read_text()) == document
    text = (folder / "README.md").read_text()
    assert text.startswith("# Tiny\n")
    assert all(f"| {one['name']} |" in text for one in document["contenders"])
    for name in ("latency-throughput.svg", "speed-f1.svg"):
        assert f"]({name})" in text
        words = "".join(ElementTree.parse(folder / name).getroot().itertext())
        assert all(contender in words for contender in CONTENDERS)


def test_add_appends_rounds_and_contenders(
    result: Result, bundle: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result[0]))
    more = ["--data", data, "--checkpoint", checkpoint, "--rounds", 1, "--output", tmp_path, "--add"]
    document = measured(bundle, *more, "--contender", "manylabel int8", "--scenario", "bulk", "--scenario", "memory")
    before, now = by_name(result[0])["manylabel int8"], by_name(document)["manylabel int8"]
    assert len(now["texts_per_second"]["all"]) == 3
    assert now["texts_per_second"]["all"][:2] == before["texts_per_second"]["all"]
    assert now["single_text_ms"] == before["single_text_ms"]
    assert len(now["memory"]["passes_mb"]) == 3
    assert by_name(document)["pipeline"]["samples"] == by_name(result[0])["pipeline"]["samples"]
    assert len(document["pieces"]) == 2


def test_add_rejects_a_result_of_other_texts(result: Result, bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result[0]))
    done = bench(bundle, "--data", data, "--limit", 10, "--threads", 1, "--output", tmp_path, "--add")
    assert done.exit_code == 2
    assert "40 there, 10 now" in done.stderr
    assert "Traceback" not in done.stderr


def test_cold_memory_scaling_and_server_scenarios(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Without a checkpoint."""
    scenarios = [word for name in ("cold", "memory", "scaling", "server") for word in ("--scenario", name)]
    names = [word for name in ("manylabel int8", "onnxruntime") for word in ("--contender", name)]
    document = measured(bundle, "--data", data, "--rounds", 1, *scenarios, *names, "--output", tmp_path)
    ours, plain = document["contenders"]
    for one in (ours, plain):
        assert one["start_warm_seconds"]["median"] > 0 < one["start_cold_seconds"]["median"]
        assert one["memory"]["passes_mb"] == sorted(one["memory"]["passes_mb"])
        assert set(one["scaling"]["length"]) == {"16", "32"}  # the toy model reads no further
        assert set(one["scaling"]["call"]) == {"1", "2", "4", "8", "16", "32"}
        assert set(one["scaling"]["threads"]) == {"1"}
    assert [at["share"] for at in ours["server"]] == sorted(at["share"] for at in ours["server"])
    assert "server" not in plain
    assert {"latency-by-length.svg", "server.svg"} <= {path.name for path in tmp_path.iterdir()}


def test_bench_without_checkpoint_names_skipped_contenders(bundle: Path, data: Path) -> None:
    done = bench(bundle, "--data", data, "--rounds", 1, "--limit", 5, "--scenario", "bulk")
    assert done.exit_code == 0, done.stderr
    assert "manylabel int8" in done.stdout
    assert "not measured: pytorch: no --checkpoint" in done.stdout
    assert "vs. pipeline" not in done.stdout


def test_mix_is_evaluated_where_labels_are_known(bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("text,labels\n" + "parcel late " * 40 + ",spam\n", encoding="utf-8")
    mix = ["--data", data, "--unlabelled", tmp_path / "long.csv", "--rounds", 1, "--scenario", "bulk"]
    document = measured(bundle, *mix)
    assert document["workload"]["sources"] == {"texts.csv": 40, "long.csv": 1}
    assert (document["texts"], document["workload"]["labelled"]) == (41, 40)
    assert document["workload"]["histogram"]["65 to 128"] == 1
    alone = measured(bundle, "--data", data, "--rounds", 1, "--scenario", "bulk")
    assert by_name(document)["manylabel int8"]["micro_f1"] == by_name(alone)["manylabel int8"]["micro_f1"]


def test_unlabelled_texts_measure_speed_only(data: Path, tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run")
    words = ["--output", tmp_path / "untrained", "--layers", 1, "--width", 16]
    done = CliRunner().invoke(random_bert.main, [str(run), *map(str, words)])
    assert done.exit_code == 0, done.output
    export(tmp_path / "untrained", tmp_path / "bundle", precisions=["fp32"])
    names = ("--contender", "manylabel fp32", "--contender", "pytorch")
    texts = ("--unlabelled", data, "--checkpoint", tmp_path / "untrained", "--rounds", 1)
    rows = by_name(measured(tmp_path / "bundle", *texts, *names, "--output", tmp_path / "result"))
    assert rows["manylabel fp32"]["max_difference"] < 1e-5
    assert "macro_f1" not in rows["manylabel fp32"]
    assert "Speed only" in (tmp_path / "result" / "README.md").read_text()


def test_bench_without_texts_error(bundle: Path) -> None:
    done = bench(bundle)
    assert done.exit_code == 2
    assert "--data" in done.stderr.splitlines()[-1]


def test_bench_rejects_data_with_other_labels(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("text,labels\nhello,spam\n")
    done = bench(bundle, "--data", tmp_path / "other.csv")
    assert done.exit_code == 2
    assert "spam" in done.stderr
    assert "Traceback" not in done.stderr


def test_failed_contender_is_named(bundle: Path, data: Path, tmp_path: Path) -> None:
    options = ("--checkpoint", tmp_path, "--contender", "pytorch", "--rounds", 1, "--scenario", "bulk")
    done = bench(bundle, "--data", data, *options)
    assert done.exit_code == 2
    assert "pytorch" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_unknown_contender_error(bundle: Path, data: Path) -> None:
    done = bench(bundle, "--data", data, "--contender", "magic")
    assert done.exit_code == 2
    assert "'magic'" in done.stderr
    assert "openvino int8" in done.stderr


def test_describe_hardware_has_cores_and_versions() -> None:
    machine = describe_hardware()
    assert machine["cores"] >= 1
    assert {"onnxruntime", "numpy"} <= set(machine["versions"])


def test_toy_bundle_label_order(bundle: Path) -> None:
    assert Bundle.open(bundle).labels == LABELS
    assert np.array_equal(Classifier.load(bundle).classes_, LABELS)


def test_mean_pooled_run_is_measured(data: Path, tmp_path: Path) -> None:
    """Its model type is not part of transformers; `manylabel_train` registers it."""
    plain, _ = load_model(str(write_checkpoint(tmp_path / "run")))
    set_pooling(plain, "mean").save_pretrained(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", precisions=["fp32"])
    names = [word for name in ("manylabel fp32", "pytorch", "pipeline") for word in ("--contender", name)]
    run = ("--data", data, "--checkpoint", tmp_path / "run", "--rounds", 1, "--scenario", "bulk")
    rows = by_name(measured(tmp_path / "bundle", *run, *names))
    assert len(rows) == 3
    assert all(one["max_difference"] < 1e-5 for one in rows.values())


def test_bench_option_unlisted_unknown(bundle: Path, data: Path) -> None:
    """Without known negatives there are no false positives."""
    run = (bundle, "--data", data, "--rounds", 1, "--limit", 20, "--scenario", "bulk")
    absent, unknown = (by_name(measured(*run, *more))["manylabel int8"] for more in ((), ("--unlisted", "unknown")))
    missed = unknown["hamming_loss"]
    assert 0 < missed < 1
    assert absent["micro_f1"] < unknown["micro_f1"] == pytest.approx(2 * (1 - missed) / (2 - missed))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("optimum fp32", "optimum"),
        ("optimum int8", "optimum"),
        ("openvino fp32", "openvino"),
        ("openvino bf16", "openvino"),
        ("openvino int8", "nncf"),
        ("cross-encoder", "sentence_transformers"),
        ("pytorch bf16", "torch"),
        ("pytorch compile", "torch"),
    ],
)
def test_contenders_match_pytorch(bundle: Path, data: Path, checkpoint: Path, name: str, needed: str) -> None:
    pytest.importorskip(needed)
    names = ("--contender", "pytorch", "--contender", name)
    run = (bundle, "--data", data, "--checkpoint", checkpoint, "--rounds", 1, "--scenario", "bulk", *names)
    difference = by_name(measured(*run))[name]["max_difference"]
    bound = MAX_DIFFERENCE.get(name.split()[-1], 1e-5)
    assert difference < MAX_DIFFERENCE.get(name, bound)
