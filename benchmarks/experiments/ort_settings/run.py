"""What else could the engine do, and where does the time go?

Sizes of a batch, threads within a call and memory arenas, each way in turns; and each operator's share of a run.

    python -m experiments.ort_settings.run BUNDLE --data DATA.csv
        --unlabelled LONG.csv --output benchmarks/experiments/ort_settings

Bulk is the classifier's own, with another session or size of batch put in; a single text is a run of the session alone.
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

SIZES = (128, 256, BATCH_TOKENS, 1024, 2048)
SHORT, MIXED, ROUNDS, RUNS = 1500, 400, 3, 15
PROFILED = (16, 64, 256)
SESSIONS: Mapping[str, Mapping[str, Any]] = {
    "as it is: one thread a call": {},
    "two threads a call, which sleep": {"intra_op_num_threads": 2, "spin": "0"},
    "two threads a call, which spin": {"intra_op_num_threads": 2},
    "two threads a call, which spin until it ends": {"intra_op_num_threads": 2, "stop": "1"},
    "one thread, no arena": {"enable_cpu_mem_arena": False},
}


def session(path: Path, *, spin: str = "1", stop: str = "0", **options: Any) -> onnxruntime.InferenceSession:
    """A session on a graph that is fused already, as ours, with some options changed."""
    chosen = onnxruntime.SessionOptions()
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings = {"intra_op_num_threads": 1, "enable_mem_pattern": False, **options}
    for name, value in settings.items():
        setattr(chosen, name, value)
    chosen.add_session_config_entry("session.intra_op.allow_spinning", spin)
    chosen.add_session_config_entry("session.force_spinning_stop", stop)
    return onnxruntime.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])


def rates(
    classifier: Classifier, workloads: Mapping[str, tuple[str, ...]], ways: Mapping[str, Callable[[], Any]]
) -> dict[str, dict[str, float]]:
    """Median texts a second by way and workload; a way is a context in which the classifier works."""
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in workloads} for way in ways}
    for _ in range(ROUNDS):
        for way, enter in ways.items():
            with enter():
                for name, texts in workloads.items():
                    found[way][name].append(len(texts) / _seconds(partial(classifier.predict_proba, texts)))
    return {way: {name: float(np.median(each)) for name, each in by.items()} for way, by in found.items()}


def latencies(sessions: Mapping[str, Any], lengths: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Median milliseconds of one text by session and length, in turns."""
    found: dict[str, dict[str, float]] = {way: {} for way in sessions}
    for length in lengths:
        ids = _ids(1, length)
        seconds: dict[str, list[float]] = {way: [] for way in sessions}
        for _ in range(ROUNDS):
            for way, each in sessions.items():
                run = partial(each.run, None, {each.get_inputs()[0].name: ids})
                seconds[way] += [_seconds(run) for _ in range(RUNS)][3:]  # the first ones warm up
        for way in sessions:
            found[way][str(length)] = float(np.median(seconds[way])) * 1000
    return found


def shares(path: Path, lengths: Iterable[int]) -> dict[str, dict[str, float]]:
    """Percent of a run by operator and length, of batches as bulk has them; operators below 1 % everywhere together."""
    found = {length: _profiled(path, length) for length in lengths}
    names = {name for by in found.values() for name, share in by.items() if share >= 1}
    ordered = sorted(names, key=lambda name: -max(by[name] for by in found.values()))
    rows = {name: {f"{length} tokens": by[name] for length, by in found.items()} for name in ordered}
    others = {f"{length} tokens": 100 - sum(by[name] for name in names) for length, by in found.items()}
    return {**rows, "the others": others}


def _profiled(path: Path, length: int) -> defaultdict[str, float]:
    """Percent of the operators' time, by onnxruntime's own profile of a thread."""
    with TemporaryDirectory() as folder:
        profiled = session(path, enable_profiling=True, profile_file_prefix=f"{folder}/profile")
        ids = _ids(max(1, BATCH_TOKENS // length), length)
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
    """A context in which the classifier has another session."""
    return patch.object(classifier._session, "_session", other)


def with_batches(classifier: Classifier, tokens: int) -> Any:
    """A context in which the classifier's batches have another size."""
    return patch.object(classifier, "_setting", replace(classifier._setting, batch_tokens=tokens))


def markdown(result: Mapping[str, Any]) -> str:
    """The tables with what they were measured on."""
    lines = [
        "# What else the engine could do, and where the time goes",
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
    return "\n".join([*lines, result_io.machine_line(result["machine"]), ""])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Short texts.")
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True, help="Long texts.")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
def main(bundle: Path, data: Path, unlabelled: Path, output: Path) -> None:
    """Try other ways on the int8 variant of BUNDLE."""
    opened = Bundle.open(bundle)
    parts = [(path.parent.name, _bare(read_dataset(path).part("test"), opened)) for path in (data, unlabelled)]
    texts = {"short": (parts[:1], SHORT), "mix": (parts, MIXED)}
    workloads = {
        name: build_workload(opened, chosen, limit=limit).data.texts for name, (chosen, limit) in texts.items()
    }
    classifier = Classifier.load(bundle, device="cpu", precision="int8", threads=2)
    classifier.predict_proba(workloads["mix"])
    path = bundle / opened.variants["int8"].file
    sessions = {name: session(path, **options) for name, options in SESSIONS.items()}
    sizes = {str(size): partial(with_batches, classifier, size) for size in SIZES}
    others = {name: partial(with_session, classifier, each) for name, each in sessions.items()}
    lengths = tuple(length for length in LENGTHS if length <= opened.manifest.max_length)
    given = {"data": result_io.data_path(data), "unlabelled": result_io.data_path(unlabelled), "output": output}
    result = {
        "command": result_io.command("ort_settings", [str(bundle)], given, {}),
        "machine": describe_hardware(),
        "texts": f"int8 on two threads, medians of {ROUNDS} rounds. Short: {len(workloads['short']):,} texts of "
        f"{parts[0][0]}; mix: {len(workloads['mix']):,} of {parts[0][0]} and {parts[1][0]}.",
        "tables": {
            "Tokens in a batch: texts/s": rates(classifier, workloads, sizes),
            "Sessions: texts/s in bulk": rates(classifier, workloads, others),
            "Sessions: one text by its tokens, ms": latencies(sessions, lengths),
            "Operators: percent of a run of 512 tokens in texts of": shares(path, PROFILED),
        },
    }
    result_io.write(result, output, markdown(result))


def _ids(texts: int, length: int) -> NDArray[np.int64]:
    """Any words of a vocabulary of some 30,000."""
    return np.random.default_rng(length).integers(1000, 20000, (texts, length))


def _bare(data: Dataset, bundle: Bundle) -> Dataset:
    unknown = np.full((len(data), len(bundle.labels)), np.nan, dtype=np.float32)
    return Dataset(data.texts, unknown, bundle.labels)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
