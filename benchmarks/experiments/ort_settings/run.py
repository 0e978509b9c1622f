"""Which onnxruntime settings are fastest, and where does the time go?

Compares batch sizes, threads per call and memory arenas in turns, and measures the share of each operator in a run.

    python -m experiments.ort_settings.run BUNDLE --data DATA.csv
        --unlabelled LONG.csv --output benchmarks/experiments/ort_settings

Rates in bulk are those of the classifier with another session or batch size; the latency of a single text is that of
the session alone.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel import Bundle, Classifier
from manylabel.inference.length_batching import BATCH_TOKENS
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.results import tables
from manylabel_bench.runner.workload import LENGTHS, build_workload
from manylabel_train.data.dataset import Dataset, read_dataset

BATCH_SIZES = (128, 256, BATCH_TOKENS, 1024, 2048)
SHORT, MIXED, ROUNDS, RUNS = 1500, 400, 3, 15
PROFILED = (16, 64, 256)
SESSIONS: Mapping[str, Mapping[str, Any]] = {
    "default: one thread per call": {},
    "two threads per call, sleeping": {"intra_op_num_threads": 2, "spin": "0"},
    "two threads per call, spinning": {"intra_op_num_threads": 2},
    "two threads per call, spinning until it ends": {"intra_op_num_threads": 2, "stop": "1"},
    "one thread, no arena": {"enable_cpu_mem_arena": False},
}


def create_session(path: Path, *, spin: str = "1", stop: str = "0", **options: Any) -> onnxruntime.InferenceSession:
    """Create a session for an already fused graph, with our options except for those given."""
    chosen = onnxruntime.SessionOptions()
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings = {"intra_op_num_threads": 1, "enable_mem_pattern": False, **options}
    for name, value in settings.items():
        setattr(chosen, name, value)
    chosen.add_session_config_entry("session.intra_op.allow_spinning", spin)
    chosen.add_session_config_entry("session.force_spinning_stop", stop)
    return onnxruntime.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])


def measure_rates(
    classifier: Classifier, workloads: Mapping[str, tuple[str, ...]], ways: Mapping[str, Callable[[], Any]]
) -> dict[str, dict[str, float]]:
    """Return the median texts per second by setting and workload.

    Args:
        classifier: The classifier to time.
        workloads: Texts by name.
        ways: By name, context managers under which the classifier has another setting.
    """
    rates: dict[str, dict[str, list[float]]] = {way: {name: [] for name in workloads} for way in ways}
    for _ in range(ROUNDS):
        for way, enter in ways.items():
            with enter():
                for name, texts in workloads.items():
                    rates[way][name].append(len(texts) / _time_call(partial(classifier.predict_proba, texts)))
    return {way: {name: float(np.median(each)) for name, each in by.items()} for way, by in rates.items()}


def measure_latencies(sessions: Mapping[str, Any], lengths: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of one text by session and length, measured in turns."""
    medians: dict[str, dict[str, float]] = {way: {} for way in sessions}
    for length in lengths:
        ids = _random_ids(1, length)
        seconds: dict[str, list[float]] = {way: [] for way in sessions}
        for _ in range(ROUNDS):
            for way, each in sessions.items():
                run = partial(each.run, None, {each.get_inputs()[0].name: ids})
                seconds[way] += [_time_call(run) for _ in range(RUNS)][3:]  # the first ones warm up
        for way in sessions:
            medians[way][str(length)] = float(np.median(seconds[way])) * 1000
    return medians


def measure_operator_shares(path: Path, lengths: Iterable[int]) -> dict[str, dict[str, float]]:
    """Return the percentage of a run by operator and length, for batches as in bulk.

    Operators below 1 % at every length are summed up.
    """
    profiles = {length: _profile_operators(path, length) for length in lengths}
    names = {name for by in profiles.values() for name, share in by.items() if share >= 1}
    ordered = sorted(names, key=lambda name: -max(by[name] for by in profiles.values()))
    rows = {name: {f"{length} tokens": by[name] for length, by in profiles.items()} for name in ordered}
    others = {f"{length} tokens": 100 - sum(by[name] for name in names) for length, by in profiles.items()}
    return {**rows, "others": others}


def _profile_operators(path: Path, length: int) -> defaultdict[str, float]:
    """Return each operator's percentage of the time in onnxruntime's profile of one thread."""
    with TemporaryDirectory() as folder:
        profiled = create_session(path, enable_profiling=True, profile_file_prefix=f"{folder}/profile")
        ids = _random_ids(max(1, BATCH_TOKENS // length), length)
        for _ in range(RUNS):
            profiled.run(None, {profiled.get_inputs()[0].name: ids})
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    spent: defaultdict[str, float] = defaultdict(float)
    for event in events:
        if event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values()) / 100
    return defaultdict(float, {name: microseconds / total for name, microseconds in spent.items()})


def with_session(classifier: Classifier, other: Any) -> Any:
    """Return a context in which the classifier has another session (there is no public way to replace it)."""
    return patch.object(classifier._session, "_session", other)


def with_batch_size(classifier: Classifier, tokens: int) -> Any:
    """Return a context in which the classifier's batches have another size."""
    return patch.object(classifier, "_config", replace(classifier._config, batch_tokens=tokens))


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    lines = [
        "# onnxruntime settings, and where the time goes",
        "",
        f"`{result['command']}`",
        "",
        result["texts"],
        "",
    ]
    for title, rows in result["tables"].items():
        columns = list(next(iter(rows.values())))
        body = [[way, *(f"{rows[way][column]:,.{2 if 'ms' in title else 0}f}" for column in columns)] for way in rows]
        lines += [f"## {title}", "", *tables.to_markdown([["", *columns], *body]), ""]
    return "\n".join([*lines, result_io.format_machine(result["machine"]), ""])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Short texts.")
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True, help="Long texts.")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
def main(bundle: Path, data: Path, unlabelled: Path, output: Path) -> None:
    """Try other onnxruntime settings with the int8 variant of BUNDLE."""
    opened = Bundle.open(bundle)
    parts = [(path.parent.name, _drop_labels(read_dataset(path).part("test"), opened)) for path in (data, unlabelled)]
    texts = {"short": (parts[:1], SHORT), "mix": (parts, MIXED)}
    workloads = {
        name: build_workload(opened, chosen, limit=limit).data.texts for name, (chosen, limit) in texts.items()
    }
    classifier = Classifier.load(bundle, device="cpu", precision="int8", threads=2)
    classifier.predict_proba(workloads["mix"])
    path = bundle / opened.variants["int8"].file
    sessions = {name: create_session(path, **options) for name, options in SESSIONS.items()}
    sizes = {str(size): partial(with_batch_size, classifier, size) for size in BATCH_SIZES}
    others = {name: partial(with_session, classifier, each) for name, each in sessions.items()}
    lengths = tuple(length for length in LENGTHS if length <= opened.manifest.max_length)
    given = {"data": result_io.portable_path(data), "unlabelled": result_io.portable_path(unlabelled), "output": output}
    result = {
        "command": result_io.format_command("ort_settings", [str(bundle)], given, {}),
        "machine": describe_hardware(),
        "texts": f"int8 on two threads, medians of {ROUNDS} rounds. Short: {len(workloads['short']):,} texts of "
        f"{parts[0][0]}; mix: {len(workloads['mix']):,} of {parts[0][0]} and {parts[1][0]}.",
        "tables": {
            "Tokens per batch: texts/s": measure_rates(classifier, workloads, sizes),
            "Sessions: texts/s in bulk": measure_rates(classifier, workloads, others),
            "Sessions: one text by length in tokens, ms": measure_latencies(sessions, lengths),
            "Operators: percentage of a run of 512 tokens, by text length": measure_operator_shares(path, PROFILED),
        },
    }
    result_io.write_result(result, output, render_readme)


def _random_ids(texts: int, length: int) -> NDArray[np.int64]:
    """Return random token ids of a vocabulary of about 30,000."""
    return np.random.default_rng(length).integers(1000, 20000, (texts, length))


def _drop_labels(data: Dataset, bundle: Bundle) -> Dataset:
    unknown = np.full((len(data), len(bundle.labels)), np.nan, dtype=np.float32)
    return Dataset(data.texts, unknown, bundle.labels)


def _time_call(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
