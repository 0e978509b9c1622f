"""Is every row scored exactly once while processes are killed?

Writes short rows, scores them with the command, on Ray or on Spark, and kills one of the scoring processes with SIGKILL
at a fixed interval; with the command, every other kill ends the whole run, which is then started again. At the end
it counts each row's id in the output. The last line of output is one JSON document.

    python -m tests.fault_injection.engines_kill build/tiny-bundle --engine ray --rows 1000000
        --output benchmarks/experiments/scoring_throughput
"""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from experiments.scoring_throughput.run import WORDS
from manylabel_bench.hardware import describe_hardware

SHARD_ROWS = 20_000
MAX_TRIES = 8
"""Attempts of a task on engines that limit them: here a task is killed more often than in practice."""

RUN_DRIVER = (
    "import sys; from tests.fault_injection import engines_kill; engines_kill.DRIVERS[sys.argv[1]](*sys.argv[2:])"
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(["command", "ray", "spark"]), required=True)
@click.option("--rows", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--every", type=float, default=10.0, show_default=True, help="Seconds between two kills.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A folder for kills-ENGINE.json.")
def main(bundle: Path, engine: str, rows: int, every: float, output: Path | None) -> None:
    """Score rows with BUNDLE while processes are killed, and count the rows."""
    with TemporaryDirectory() as scratch:
        given = write_rows(Path(scratch) / "rows.parquet", rows)
        result = run_with_kills(engine, bundle, given, Path(scratch) / "out", every)
        result |= count_rows(Path(scratch) / "out", rows)
    result |= {
        "command": shlex.join(["python", "-m", "tests.fault_injection.engines_kill", *sys.argv[1:]]),
        "machine": describe_hardware() | {"engine": _engine_versions()},
    }
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"kills-{engine}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(result))


def write_rows(path: Path, rows: int) -> Path:
    """Write rows with an id and a text of 1 to 12 words, the same ones every time."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=1 + row % 12)) for row in range(rows)]
    pq.write_table(pa.table({"id": np.arange(rows), "text": texts}), path, row_group_size=SHARD_ROWS)
    return path


def run_with_kills(engine: str, bundle: Path, given: Path, output: Path, every: float) -> dict[str, Any]:
    """Run the engine until it finishes, and start it again whenever it is killed itself."""
    rng, started = random.Random(0), time.monotonic()
    killed = {"worker": 0, "run": 0}
    arguments = [sys.executable, "-c", RUN_DRIVER, engine, str(bundle), str(given), str(output)]
    while True:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        while True:
            try:
                code = process.wait(every)
                break
            except subprocess.TimeoutExpired:
                whole = engine == "command" and sum(killed.values()) % 2 == 1
                victims = [process.pid] if whole else list(scoring_processes(engine, process.pid))
                if victims:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    killed["run" if whole else "worker"] += 1
        if code == 0:
            return {"engine": engine, "seconds": round(time.monotonic() - started, 1), "every": every, "killed": killed}
        if code != -signal.SIGKILL:
            raise click.ClickException(f"the run on {engine} ended with {code}")


def count_rows(output: Path, rows: int) -> dict[str, int]:
    """Count lost, duplicated and failed rows in the output."""
    files = [str(path) for path in output.rglob("*.parquet") if not path.name.startswith(("_", "."))]
    output_rows = pyarrow.dataset.dataset(files).to_table(["id", "error"])
    counts = np.bincount(output_rows["id"].to_numpy(), minlength=rows)
    errors = output_rows.num_rows - output_rows["error"].null_count
    return {"rows": rows, "lost": int((counts == 0).sum()), "twice": int((counts > 1).sum()), "errors": errors}


def scoring_processes(engine: str, root: int) -> Iterator[int]:
    """Yield the scoring processes below `root`: the command's worker, Ray's actors and workers, Spark's workers."""
    processes = dict(_processes())
    for pid, (parent, command) in processes.items():
        if root not in _ancestors(pid, processes):
            continue
        forked = "pyspark.daemon" in command and "pyspark.daemon" in processes.get(parent, (0, ""))[1]
        if "manylabel.scoring.worker" in command or "ray::MapWorker" in command or forked:
            yield pid


def _processes() -> Iterator[tuple[int, tuple[int, str]]]:
    """Yield every process with its parent and its command."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            yield int(folder.name), (parent, (folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended
            continue


def _ancestors(pid: int, processes: dict[int, tuple[int, str]]) -> Iterator[int]:
    while pid in processes:
        pid = processes[pid][0]
        yield pid


def _command(bundle: str, given: str, output: str) -> None:
    shards = str(SHARD_ROWS)
    arguments = ["score", bundle, given, "-o", output, "--device", "cpu", "--shard-rows", shards]
    os.execv(sys.executable, [sys.executable, "-m", "manylabel", *arguments])  # our own


def _ray(bundle: str, given: str, output: str) -> None:
    import ray

    from manylabel.engines.ray import score_files
    from manylabel.scoring import ScoreOptions
    from manylabel.scoring.run import ScoreRequest

    ray.init(object_store_memory=200 << 20, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    options = ScoreOptions(shard_rows=SHARD_ROWS)
    score_files(ScoreRequest(Path(bundle), [given], None, output, options, device="cpu"), actors=2, retries=MAX_TRIES)


def _spark(bundle: str, given: str, output: str) -> None:
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    from pyspark.sql import SparkSession

    from manylabel.engines.spark import score

    session = SparkSession.builder.master(f"local[2,{MAX_TRIES}]").config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    score(session.read.parquet(given).repartition(50, "id"), bundle).write.parquet(output)
    session.stop()


DRIVERS: dict[str, Callable[[str, str, str], None]] = {"command": _command, "ray": _ray, "spark": _spark}


def _engine_versions() -> dict[str, str]:
    versions = {}
    for name in ("ray", "pyspark", "pyarrow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


if __name__ == "__main__":
    main()
