"""Figures, tables and texts of the benchmark, each by a case that can be worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from manylabel_bench.results.statistics import interval, percentile
from manylabel_bench.roofline import operations_per_token
from tests.conftest import ROOT
from tests.helpers.toy import LABELS, TEXTS

from experiments.targets import run
from manylabel import Bundle
from manylabel.errors import DataError
from manylabel_bench.contenders import RIVALS, Kind, Setting, kind_of
from manylabel_bench.results import plots, readme, tables
from manylabel_bench.results.document import check_same
from manylabel_bench.results.metrics import figures
from manylabel_bench.runner.workload import gather, padding_share, sample
from manylabel_train.data.dataset import Dataset

HEAD = {"texts": 100, "operations_per_token": 2e6, "peak": {"fp32": 10.0, "int8": 40.0}}
BATCHES = {"batching": "equal", "tokens": 1000, "padding_share": 0.0}


def test_rates_and_share_of_the_peak() -> None:
    samples = {
        "bulk": [{"seconds": seconds, "peak_rss_mb": 50.0} for seconds in (0.5, 1.0, 2.0)],
        "load": [0.1],
        "batching": [BATCHES],
    }
    found = figures("manylabel int8", samples, HEAD)
    assert found["texts_per_second"]["median"] == 100
    assert found["tokens_per_second"] == 1000
    assert found["share_of_peak"] == pytest.approx(1000 * 2e6 / 40e9)
    assert figures("pipeline", samples, HEAD)["share_of_peak"] == pytest.approx(1000 * 2e6 / 10e9)
    assert figures("pytorch bf16", samples, HEAD)["share_of_peak"] is None  # whose peak was not measured


def test_latencies_starts_and_scaling() -> None:
    samples = {
        "single": [seconds / 1000 for seconds in range(1, 102)],
        "cold": [{"cache": "warm", "seconds": 1.0}, {"cache": "warm", "seconds": 3.0}],
        "scaling": [{"by": "length", "at": 16, "texts": 10, "seconds": 2.0, "singles": [0.001, 0.003]}],
    }
    found = figures("manylabel int8", samples, HEAD)
    latency = found["single_text_ms"]
    assert [latency[name] for name in ("p50", "p90", "p99", "max", "n")] == pytest.approx([51, 91, 100, 101, 101])
    assert found["start_warm_seconds"]["median"] == 2
    assert "start_cold_seconds" not in found
    at = found["scaling"]["length"]["16"]
    assert (at["texts_per_second"], at["tokens_per_second"]) == (5, 80)
    assert at["single_p50_ms"] == pytest.approx(2)


def test_bootstrap_interval_of_the_median() -> None:
    dice = np.random.default_rng(1)
    few, many = (interval(dice.normal(10, 1, n).tolist()) for n in (10, 1000))
    assert few[0] < 10 < few[1]
    assert many[1] - many[0] < 0.3 * (few[1] - few[0])
    low, high = interval(dice.normal(0, 1, 1000).tolist(), percentile(90))
    assert low < 1.28 < high


def test_padding_share() -> None:
    lengths = np.array([2, 8, 2, 8])
    assert padding_share(lengths, "as given 2") == pytest.approx(12 / 32)
    assert padding_share(lengths, "sorted 2") == 0
    assert padding_share(lengths, "sorted 4") == pytest.approx(12 / 32)
    assert padding_share(lengths, "equal") == 0


def test_texts_of_a_given_token_count(bundle: Path) -> None:
    data = Dataset(TEXTS, np.zeros((len(TEXTS), len(LABELS)), dtype=np.float32), LABELS)
    workload = gather(Bundle.open(bundle), [("tiny", data)], limit=0)
    for length in (8, 16, 32):
        several = workload.of_length(length, 8)
        assert len(several) == 8
        assert len(set(several)) > 4  # the words repeat themselves
        assert {one.n_tokens for one in workload.tokenizer.encode(several)} == {length}


def test_sample_is_deterministic_and_of_given_size(bundle: Path) -> None:
    data = Dataset(TEXTS, np.zeros((len(TEXTS), len(LABELS)), dtype=np.float32), LABELS)
    first, again = (gather(Bundle.open(bundle), [("a", data), ("b", data)], limit=7).data for _ in range(2))
    assert first.texts == again.texts
    assert len(first) == 14


def test_contenders_tune_on_a_mix_like_the_measured_texts() -> None:
    short, long = [f"short {at}" for at in range(2000)], [f"long {at}" for at in range(100)]
    found = sample([short, long], [600, 200])
    assert len(set(found)) == len(found) == 375 + 100  # of the long ones there are no more
    assert sum(text.startswith("short") for text in found) == 375
    assert sample([short, long], [60, 20]) == found
    assert {text.split()[0] for text in found[:20]} == {"short", "long"}  # mixed


def test_operations_of_minilm(tmp_path: Path) -> None:
    config = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert operations_per_token(tmp_path / "config.json") == pytest.approx(21.2e6, rel=0.005)
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 384}))
    assert operations_per_token(tmp_path / "config.json") is None


def test_unavailable_contender_gives_a_reason(tmp_path: Path) -> None:
    setting = Setting(str(tmp_path), None, str(tmp_path), 1, 32)
    assert kind_of("pipeline").missing(setting) == "no --checkpoint"
    absent = Kind("x", "x", "", ("no_such_module.part", "json"), (), "", needs_checkpoint=False)
    assert absent.missing(setting) == "no_such_module.part not installed"
    assert kind_of("onnxruntime").missing(setting) == "no model.onnx in the bundle"
    (tmp_path / "model.onnx").touch()
    assert kind_of("onnxruntime").missing(setting) is None
    assert len({kind.name for kind in RIVALS}) == len(RIVALS)


def test_medians_and_ratios_in_the_table() -> None:
    contender = {"single_text_ms": {"p50": 2.0}, "peak_rss_mb": 100.0, "micro_f1": 0.5, "macro_f1": 0.25}
    result = {
        "contenders": [
            {"name": "manylabel int8", "texts_per_second": {"median": 1000.0}, **contender},
            {"name": "pipeline", "texts_per_second": {"median": 100.0}, **contender},
            {"name": "pytorch", "peak_rss_mb": 200.0},
            {"name": "openvino int8"},
        ]
    }
    head, *rows = tables.render(tables.README, result)
    assert head == ["", "texts/s", "against pipeline", "one text, p50 ms", "peak MB", "micro-F1", "macro-F1"]
    assert rows[0] == ["manylabel int8", "1,000", "10.0x", "2.0", "100", "0.5000", "0.2500"]
    assert rows[1][2] == "1.0x"
    assert rows[2] == ["pytorch", *["not measured"] * 3, "200", *["not measured"] * 2]
    assert len(rows) == 3  # of the fourth nothing is known


def test_axis_ticks_enclose_the_data() -> None:
    for low, high in ((3, 4100), (0.7, 0.9), (26.0, 26.5)):
        axis = plots.Axis.over([low, high], log=True)
        assert axis.ends[0] <= axis.at(low) < axis.at(high) <= axis.ends[1]
    axis = plots.Axis.over([0.5383, 0.5399], log=False)
    assert axis.ends[0] <= 0.5383 < 0.5399 <= axis.ends[1]


def test_result_of_another_machine_is_not_extended() -> None:
    one = {
        "threads": 2,
        "texts": 10,
        "bundle": {"digest": "a"},
        "workload": {"digest": "b"},
        "machine": {"cpu": "x", "versions": {"numpy": "2"}},
    }
    check_same(one, one)
    for other in ({"threads": 1}, {"bundle": {"digest": "c"}}, {"machine": {"cpu": "y", "versions": {"numpy": "2"}}}):
        with pytest.raises(DataError, match="Leave out --add"):
            check_same(one, one | other)


def test_readme_tables_match_the_committed_results() -> None:
    """`make readme` draws them anew."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- bench ") >= 2
    assert readme.filled(text, ROOT / "benchmarks" / "results") == text


def test_targets_page_matches_the_committed_results() -> None:
    results = ROOT / "benchmarks" / "results"
    if not (results / run.PAGE).exists():
        pytest.skip("make results-goemotions results-mix readme writes the page")
    found = (results / run.PAGE).read_text(encoding="utf-8")
    assert found == run.page(results)
    assert tables.ABSENT not in found.split("## On a GPU")[0]


def test_target_notes_name_existing_targets() -> None:
    said = run.notes(ROOT / "benchmarks" / "results")
    assert {model.name for model in run.MODELS} >= set(said)
    assert {aim.what for aim in run.AIMS} >= {what for notes in said.values() for what in notes}


def test_targets_page_explains_missed_targets(tmp_path: Path) -> None:
    ours = {"name": run.OURS, "texts_per_second": {"median": 100.0}, "macro_f1": 0.5}
    rivals = [
        {"name": "pytorch", "texts_per_second": {"median": 50.0}, "macro_f1": 0.501},
        {"name": "openvino int8", "texts_per_second": {"median": 100.0}, "macro_f1": 0.48},
        {"name": "optimum int8", "texts_per_second": {"median": 80.0}, "macro_f1": 0.497},
    ]
    document = {"contenders": [ours, *rivals], "machine": {"cpu": "A processor", "flags": ["avx2", "amx_int8"]}}
    for name in ("goemotions-minilm", "mix-minilm", "mobasa-e5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(document))
    what = "bulk, against OpenVINO in int8: mix"
    (tmp_path / run.NOTES).write_text(f'["MiniLM-L6"]\n"{what}" = "Because."\n')
    found = run.page(tmp_path)
    assert "## MiniLM-L6" in found
    assert "game reviews. On A processor (avx2, amx_int8)." in found
    assert "multilingual-e5-small" not in found  # its mix is not measured
    assert f"| {what} | 1.10x | 1.40x | 1.00x | 9% short; openvino int8 loses 0.021 of macro-F1 |" in found
    assert "| bulk, against Optimum's int8, sorted: short texts | 1.15x | 1.60x | 1.25x | reached |" in found
    assert f"- {what}: Because.\n" in found
    assert "- bulk, against PyTorch in fp32, sorted: mix: not looked into.\n" in found
    assert "- bulk, against Optimum's int8, sorted: short texts" not in found


def test_targets_page_shows_gpu_once_measured(tmp_path: Path) -> None:
    assert "not measured | `make results-gpu` has not run on one yet |" in run.page(tmp_path)
    rates = {"manylabel fp16": 300.0, "manylabel fp16, CUDA graphs": 200.0, "PyTorch a": 100.0, "PyTorch b": 150.0}
    ways = {name: {"texts_per_second": {"median": rate}} for name, rate in rates.items()}
    (tmp_path / run.GPU).mkdir()
    (tmp_path / run.GPU / "result.json").write_text(json.dumps({"ways": ways, "device": "a GPU"}))
    assert "| 1.50x | 3.00x | 2.00x | reached; on a GPU |" in run.page(tmp_path)


def test_target_verdicts() -> None:
    more = run.Aim("", 2, 4, lambda results: results.mix["x"])
    less = run.Aim("", 2, 1, lambda results: results.mix["x"], most=True)
    verdicts = {x: [aim.row(run.Results({}, {"x": x}))[-1] for aim in (more, less)] for x in (0.5, 1.5, 2.5, 4.0)}
    assert verdicts == {
        0.5: ["75% short", "stretch"],
        1.5: ["25% short", "reached"],
        2.5: ["reached", "20% short"],
        4.0: ["stretch", "50% short"],
    }
    assert more.row(run.Results({}, {}))[-2:] == ["not measured", ""]
