"""How does file scoring scale from one core to two, and which step is the bottleneck? Each step is timed on one core.

The last line of output is one JSON document; docs/scaling.md computes its figures from it.

    python -m experiments.scoring_scaling.run build/goemotions --data ../shared/data/goemotions/data.csv \
        --output benchmarks/experiments/scoring_scaling
"""

import bz2
import csv
import gzip
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.common import result_io
from experiments.scoring_throughput.run import measure_library_rate
from manylabel import Classifier
from manylabel.frames.prediction_columns import append_predictions, predict_blocks, prediction_fields
from manylabel.inference.pipeline import TOKENIZER_BATCH_TEXTS
from manylabel.scoring.job import ScoreOptions
from manylabel.scoring.planner import ShardPlan, find_sources, plan_shards, read_shard
from manylabel.scoring.writers import open_part
from manylabel.system.hardware_info import available_cores
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.results import tables

SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".parquet")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A CSV file with texts.")
@click.option("--text-column", default="text", show_default=True)
@click.option(
    "--texts", type=click.IntRange(min=1), default=20_000, show_default=True, help="Number of texts to score."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A folder for result.json.")
def main(bundle: Path, data: Path, text_column: str, texts: int, output: Path | None) -> None:
    """Measure BUNDLE on one core, on all cores, and step by step."""
    with TemporaryDirectory() as scratch:
        result = {
            "command": shlex.join(["python", "-m", "experiments.scoring_scaling.run", *sys.argv[1:]]),
            "data": result_io.portable_path(data),
            "machine": describe_hardware(),
            "texts_per_second": measure_cores(bundle, data, text_column, texts),
            "one_core": measure_steps(bundle, data, text_column, texts, Path(scratch)),
        }
    if output:
        result_io.write_result(result, output, render_readme)
    click.echo(json.dumps(result))


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    steps = result["one_core"]
    rates = [[name, f"{rate:,.0f}"] for name, rate in result["texts_per_second"].items()]
    rows = [[name, f"{rate:,}"] for name, rate in steps["rows_per_second"].items()]
    return "\n".join(
        [
            "# How file scoring scales",
            "",
            f"`{result['command']}`",
            "",
            f"{steps['texts']:,} texts with {steps['characters']} characters and {steps['tokens']} tokens on average, "
            "scored from a list:",
            "",
            *tables.to_markdown([["", "texts/s"], *rates]),
            "",
            "Each step of scoring a file, on one core. `plan` finds columns, digest and shards; `read` yields the "
            "texts.",
            "",
            *tables.to_markdown([["step", "rows/s"], *rows]),
            "",
            result_io.format_machine(result["machine"]),
            "",
        ]
    )


def measure_cores(bundle: Path, data: Path, text_column: str, texts: int) -> dict[str, float]:
    """Return the texts per second of one thread, of all threads in one process, and of one process per core."""
    given = {"bundle": bundle, "text_column": text_column, "library_rows": texts}
    granted = available_cores()
    rates_by_setup = {
        "1 thread": measure_library_rate(given, data, 1),
        f"{granted} threads": measure_library_rate(given, data, granted),
    }
    with ThreadPoolExecutor(granted) as pool:
        rates = pool.map(lambda _: measure_library_rate(given, data, 1), range(granted))
    return {**rates_by_setup, f"{granted} processes": sum(rates)}


def measure_steps(bundle: Path, data: Path, text_column: str, texts: int, scratch: Path) -> dict[str, Any]:
    """Return the rows per second of each step on one core; `characters` and `tokens` are means per text."""
    files = write_files(data, text_column, texts, scratch)
    classifier = Classifier.load(bundle, device="cpu", threads=1)
    plans = {suffix: plan_file(file) for suffix, file in files.items()}
    whole = [text for block in read_blocks(plans[".parquet"]) for text in block.texts if text is not None]
    classifier.predict_proba(whole[:1000])
    encodings: list[Any] = []

    def tokenise() -> None:
        for start in range(0, len(whole), TOKENIZER_BATCH_TEXTS):
            encodings.extend(classifier.encode(whole[start : start + TOKENIZER_BATCH_TEXTS]))

    rates = {
        **{f"plan {suffix}": measure_rate(texts, partial(plan_file, file)) for suffix, file in files.items()},
        **{f"read {suffix}": measure_rate(texts, partial(read_all, each)) for suffix, each in plans.items()},
        "tokenise": measure_rate(texts, tokenise),
        "graph": measure_rate(
            texts, lambda: classifier.score_windows([each.windows[0] for each in encodings[: len(whole)]])
        ),
        **measure_writers(classifier, plans[".parquet"], scratch, texts),
    }
    unpacked = sum(len(text.encode()) for text in whole)
    return {
        "texts": texts,
        "characters": round(unpacked / texts, 1),
        "tokens": round(float(np.mean([each.n_tokens for each in encodings[:texts]])), 1),
        "rows_per_second": {name: round(value) for name, value in rates.items()},
        "bytes_per_row": {suffix: round(file.stat().st_size / texts, 1) for suffix, file in files.items()},
    }


def write_files(data: Path, text_column: str, texts: int, scratch: Path) -> dict[str, Path]:
    """Write the first texts in every format and compression; return the files by suffix."""
    with data.open(newline="", encoding="utf-8") as file:
        rows = [row[text_column] for row in islice(csv.DictReader(file), texts)]
    files = {suffix: scratch / f"rows{suffix}" for suffix in SUFFIXES}
    with files[".csv"].open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in rows)])
    content = files[".csv"].read_bytes()
    files[".csv.gz"].write_bytes(gzip.compress(content))
    files[".csv.bz2"].write_bytes(bz2.compress(content))
    with pa.CompressedOutputStream(str(files[".csv.zst"]), "zstd") as packed:
        packed.write(content)
    pq.write_table(pa.table({"text": rows}), files[".parquet"], compression="zstd")
    return files


def plan_file(file: Path) -> ShardPlan:
    """Run the pass that finds columns, digest and shards."""
    sources = find_sources([str(file)], format=None, spool="")
    return plan_shards(sources, text_column="text", shard_rows=50_000, progress=lambda rows: None)


def read_blocks(planned: ShardPlan) -> Any:
    """Yield all rows in blocks."""
    return (block for shard in planned.shards for block in read_shard(planned.inputs[shard.file], shard, "text"))


def read_all(planned: ShardPlan) -> None:
    """Read all rows and discard them."""
    for _ in read_blocks(planned):
        pass


def measure_writers(classifier: Classifier, planned: ShardPlan, scratch: Path, texts: int) -> dict[str, float]:
    """Return the rows per second of writing predictions, by format."""
    labels = classifier.bundle.labels
    schema = pa.schema([*planned.schema, *prediction_fields(labels, "columns", "")])
    ready = list(predict_blocks(classifier, read_blocks(planned), first_row=0))

    def write(format: Any) -> None:
        with (
            open(scratch / "part", "wb") as file,
            open_part(file, schema, ScoreOptions(format=format)) as part,
        ):
            for block, predictions in ready:
                part.write(
                    append_predictions(
                        block,
                        predictions,
                        schema=schema,
                        labels=labels,
                        thresholds=classifier.thresholds_,
                        probabilities="columns",
                    )
                )

    formats: Sequence[str] = ("parquet", "csv", "jsonl")
    return {f"write .{format}": measure_rate(texts, partial(write, format)) for format in formats}


def measure_rate(rows: int, work: Callable[[], object]) -> float:
    """Return the rows per second of the faster of two runs."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return rows / min(seconds)


if __name__ == "__main__":
    main()
