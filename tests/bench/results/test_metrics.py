"""Figures, tables and workloads of the benchmark, each checked by a case that can be worked out by hand."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ROOT
from tests.helpers.toy import LABELS, TEXTS

from experiments.common.readme_tables import fill_tables
from manylabel import Bundle
from manylabel.errors import DataError
from manylabel_bench.contenders.registry import BASELINES, ContenderConfig, ContenderSpec, find_contender
from manylabel_bench.hardware import operations_per_token
from manylabel_bench.results import plots, tables
from manylabel_bench.results.document import check_comparable
from manylabel_bench.results.metrics import bootstrap_interval, compute_figures
from manylabel_bench.runner.workload import build_workload, padding_share, sample_texts
from manylabel_train.data.dataset import Dataset

HEAD = {"texts": 100, "operations_per_token": 2e6, "peak": {"fp32": 10.0, "int8": 40.0}}
BATCHES = {"batching": "equal", "tokens": 1000, "padding_share": 0.0}


def test_compute_figures_gives_rates_and_share_of_peak() -> None:
    samples = {
        "bulk": [{"seconds": seconds, "peak_rss_mb": 50.0} for seconds in (0.5, 1.0, 2.0)],
        "load": [0.1],
        "batching": [BATCHES],
    }
    figures = compute_figures("manylabel int8", samples, HEAD)
    assert figures["texts_per_second"]["median"] == 100
    assert figures["tokens_per_second"] == 1000
    assert figures["share_of_peak"] == pytest.approx(1000 * 2e6 / 40e9)
    assert compute_figures("pipeline", samples, HEAD)["share_of_peak"] == pytest.approx(1000 * 2e6 / 10e9)
    assert compute_figures("pytorch bf16", samples, HEAD)["share_of_peak"] is None  # its peak is not measured


def test_compute_figures_gives_latency_cold_start_and_scaling() -> None:
    samples = {
        "single": [seconds / 1000 for seconds in range(1, 102)],
        "cold": [{"cache": "warm", "seconds": 1.0}, {"cache": "warm", "seconds": 3.0}],
        "scaling": [{"by": "length", "at": 16, "texts": 10, "seconds": 2.0, "singles": [0.001, 0.003]}],
    }
    figures = compute_figures("manylabel int8", samples, HEAD)
    latency = figures["single_text_ms"]
    assert [latency[name] for name in ("p50", "p90", "p99", "max", "n")] == pytest.approx([51, 91, 100, 101, 101])
    assert figures["start_warm_seconds"]["median"] == 2
    assert "start_cold_seconds" not in figures
    at = figures["scaling"]["length"]["16"]
    assert (at["texts_per_second"], at["tokens_per_second"]) == (5, 80)
    assert at["single_p50_ms"] == pytest.approx(2)


def test_bootstrap_interval_of_the_median() -> None:
    rng = np.random.default_rng(1)
    few, many = (bootstrap_interval(rng.normal(10, 1, n).tolist()) for n in (10, 1000))
    assert few[0] < 10 < few[1]
    assert many[1] - many[0] < 0.3 * (few[1] - few[0])
    low, high = bootstrap_interval(rng.normal(0, 1, 1000).tolist(), partial(np.percentile, q=90))
    assert low < 1.28 < high
    assert bootstrap_interval([3.0]) == (3.0, 3.0)


def test_padding_share() -> None:
    lengths = np.array([2, 8, 2, 8])
    assert padding_share(lengths, "as given 2") == pytest.approx(12 / 32)
    assert padding_share(lengths, "sorted 2") == 0
    assert padding_share(lengths, "sorted 4") == pytest.approx(12 / 32)
    assert padding_share(lengths, "equal") == 0


def test_texts_of_a_given_token_count(bundle: Path) -> None:
    data = Dataset(TEXTS, np.zeros((len(TEXTS), len(LABELS)), dtype=np.float32), LABELS)
    workload = build_workload(Bundle.open(bundle), [("tiny", data)], limit=0)
    for length in (8, 16, 32):
        texts = workload.texts_of_length(length, 8)
        assert len(texts) == 8
        assert len(set(texts)) > 4  # the toy texts repeat their words
        assert {encoding.n_tokens for encoding in workload.tokenizer.encode(texts)} == {length}


def test_sample_is_deterministic_and_of_given_size(bundle: Path) -> None:
    data = Dataset(TEXTS, np.zeros((len(TEXTS), len(LABELS)), dtype=np.float32), LABELS)
    first, again = (build_workload(Bundle.open(bundle), [("a", data), ("b", data)], limit=7).data for _ in range(2))
    assert first.texts == again.texts
    assert len(first) == 14


def test_contenders_tune_on_a_mix_like_the_measured_texts() -> None:
    short, long = [f"short {at}" for at in range(2000)], [f"long {at}" for at in range(100)]
    sampled = sample_texts([short, long], [600, 200])
    assert len(set(sampled)) == len(sampled) == 375 + 100  # there are only 100 long texts
    assert sum(text.startswith("short") for text in sampled) == 375
    assert sample_texts([short, long], [60, 20]) == sampled
    assert {text.split()[0] for text in sampled[:20]} == {"short", "long"}  # mixed


def test_operations_per_token_of_minilm(tmp_path: Path) -> None:
    config = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert operations_per_token(tmp_path / "config.json") == pytest.approx(21.2e6, rel=0.005)
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 384}))
    assert operations_per_token(tmp_path / "config.json") is None


def test_unavailable_contender_gives_a_reason(tmp_path: Path) -> None:
    config = ContenderConfig(str(tmp_path), None, str(tmp_path), 1, 32)
    assert find_contender("pipeline").unavailable_reason(config) == "no --checkpoint"
    absent = ContenderSpec("x", "x", "", ("no_such_module.part", "json"), (), "", needs_checkpoint=False)
    assert absent.unavailable_reason(config) == "no_such_module.part not installed"
    assert find_contender("onnxruntime").unavailable_reason(config) == "no model.onnx in the bundle"
    (tmp_path / "model.onnx").touch()
    assert find_contender("onnxruntime").unavailable_reason(config) is None
    assert len({spec.name for spec in BASELINES}) == len(BASELINES)


def test_readme_table_has_medians_and_ratios() -> None:
    figures = {"single_text_ms": {"p50": 2.0}, "peak_rss_mb": 100.0, "micro_f1": 0.5, "macro_f1": 0.25}
    result = {
        "contenders": [
            {"name": "manylabel int8", "texts_per_second": {"median": 1000.0}, **figures},
            {"name": "pipeline", "texts_per_second": {"median": 100.0}, **figures},
            {"name": "pytorch", "peak_rss_mb": 200.0},
            {"name": "openvino int8"},
        ]
    }
    head, *rows = tables.build_table(tables.README, result)
    assert head == ["", "texts/s", "vs. pipeline", "one text, p50 ms", "peak MB", "micro-F1", "macro-F1"]
    assert rows[0] == ["manylabel int8", "1,000", "10.0x", "2.0", "100", "0.5000", "0.2500"]
    assert rows[1][2] == "1.0x"
    assert rows[2] == ["pytorch", *["not measured"] * 3, "200", *["not measured"] * 2]
    assert len(rows) == 3  # nothing was measured of the fourth


def test_axis_ticks_enclose_the_data() -> None:
    for low, high in ((3, 4100), (0.7, 0.9), (26.0, 26.5)):
        axis = plots.Axis.over([low, high], log=True)
        assert axis.ends[0] <= axis.at(low) < axis.at(high) <= axis.ends[1]
    axis = plots.Axis.over([0.5383, 0.5399], log=False)
    assert axis.ends[0] <= 0.5383 < 0.5399 <= axis.ends[1]


def test_result_of_another_machine_is_not_extended() -> None:
    document = {
        "threads": 2,
        "texts": 10,
        "bundle": {"digest": "a"},
        "workload": {"digest": "b"},
        "machine": {"cpu": "x", "versions": {"numpy": "2"}},
    }
    check_comparable(document, document)
    for other in ({"threads": 1}, {"bundle": {"digest": "c"}}, {"machine": {"cpu": "y", "versions": {"numpy": "2"}}}):
        with pytest.raises(DataError, match="without --add"):
            check_comparable(document, document | other)


def test_readme_tables_match_the_committed_results() -> None:
    """`make readme` redraws them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- bench ") >= 2
    assert fill_tables(text, ROOT / "benchmarks" / "results") == text
