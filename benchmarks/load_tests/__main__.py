"""`python -m load_tests BUNDLE --checkpoint RUN --data DATA.csv --rivals PYTHON --output FOLDER`."""

import json
import random
import resource
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from manylabel_bench.machine import describe

from load_tests import report, scenarios, throughput
from manylabel import Bundle
from manylabel.system.cpu_quota import available_cores
from manylabel_bench.contenders import Setting, bundled
from manylabel_bench.load import servers
from manylabel_bench.runner import process
from manylabel_bench.runner.workload import write_texts
from manylabel_train.data.dataset import Dataset, read_dataset

RIVALS = ("torch", "transformers", "fastapi", "uvicorn", "infinity-emb")
PARTS = ("speed", "load")
VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="For the rivals.")
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--rivals", type=click.Path(path_type=Path), help="The Python of the rivals' environment.")
@click.option("--seconds", default=15.0, show_default=True, help="Of every phase.")
@click.option("--steady", type=float, help="Seconds of the steady load.  [default: as every phase]")
@click.option("--overload", type=float, help="Seconds at twice capacity.  [default: as every phase]")
@click.option("--recovery", default=11.0, show_default=True, help="Seconds that are watched after a surge.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--texts", "limit", default=1000, show_default=True, help="Whose answers are judged.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    default=PARTS,
    show_default=True,
    help="What to measure; the output keeps what it has of the other.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
def main(
    bundle: Path,
    checkpoint: Path | None,
    data: Path,
    rivals: Path | None,
    seconds: float,
    steady: float | None,
    overload: float | None,
    recovery: float,
    rounds: int,
    limit: int,
    parts: tuple[str, ...],
    output: Path,
) -> None:
    """Measure the server of BUNDLE: its speed beside others, and how it holds its load."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # overload is many connections at once
    opened = Bundle.open(bundle)
    labelled = read_dataset(data).part("test").reorder(opened.labels)
    labelled = labelled.take(random.Random(0).sample(range(len(labelled)), min(limit, len(labelled))))
    kinds = [servers.manylabel(bundle)]
    if rivals and checkpoint:
        kinds += [servers.fastapi(rivals, checkpoint), servers.infinity(rivals, checkpoint)]
    measured = {}
    with TemporaryDirectory() as scratch:
        if "speed" in parts:
            about = _about(_versions(rivals) if rivals else {})
            compared = _speed(opened, labelled, kinds, Path(scratch), seconds=seconds / 3, rounds=rounds)
            measured["speed"] = {**about, **compared}
        if "load" in parts:
            about = _about({})
            plan = scenarios.Plan(seconds, steady or seconds, overload or seconds, recovery, rounds=rounds)
            with servers.started(kinds[0], labelled.texts[0], Path(scratch) / "log") as server:
                measured["load"] = {**about, **scenarios.run(server, labelled.texts, plan)}
    report.add(measured, output)
    click.echo((output / "README.md").read_text())


def _about(versions: dict[str, str]) -> dict[str, Any]:
    """How and on what a part is measured."""
    machine = describe()
    machine["versions"] = {**machine["versions"], **versions}
    return {"command": shlex.join(["python", "-m", "load_tests", *sys.argv[1:]]), "machine": machine}


def _speed(
    bundle: Bundle, data: Dataset, kinds: list[servers.Kind], scratch: Path, *, seconds: float, rounds: int
) -> dict[str, Any]:
    """One text, the greatest rates and the accuracy, with all servers up and one asked at a time."""
    texts = write_texts(scratch / "texts.json", data.texts)
    precision = "int8" if "int8" in bundle.variants else "fp32"
    with ExitStack() as stack:
        up = [
            stack.enter_context(servers.started(kind, data.texts[0], scratch / f"log{at}"))
            for at, kind in enumerate(kinds)
        ]
        setting = Setting(
            bundle=str(bundle.path),
            checkpoint=None,
            prepared=str(scratch),
            threads=available_cores(),
            max_length=bundle.manifest.max_length,
        )
        turn = stack.enter_context(process.started(bundled(precision), setting, texts))
        return {
            "precision": precision,
            "one_text": throughput.one_text(up[0], turn, texts, data.texts[:300], rounds),
            "rates": throughput.greatest_rates(up, data.texts, seconds=seconds, rounds=rounds),
            "accuracy": {
                server.kind.name: throughput.accuracy(server, bundle, data, precision if server is up[0] else "fp32")
                for server in up
            },
        }


def _versions(python: Path) -> dict[str, str]:
    done = subprocess.run([str(python), "-c", VERSIONS, *RIVALS], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
