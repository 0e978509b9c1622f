"""The command `python -m load_tests BUNDLE --checkpoint RUN --data DATA.csv --rivals PYTHON --output FOLDER`."""

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

from load_tests import baselines, report, scenarios, throughput
from manylabel import Bundle
from manylabel.system.hardware_info import available_cores
from manylabel_bench.contenders.registry import ContenderConfig, bundle_contender
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.load import servers
from manylabel_bench.runner import process
from manylabel_bench.runner.workload import write_texts
from manylabel_train.data.dataset import Dataset, read_dataset

BASELINE_PACKAGES = ("torch", "transformers", "fastapi", "uvicorn", "infinity-emb")
PARTS = ("speed", "load")
VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The PyTorch checkpoint, for the other servers.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Labelled texts with a test split.")
@click.option("--rivals", type=click.Path(path_type=Path), help="Python of the environment with the other servers.")
@click.option("--seconds", default=15.0, show_default=True, help="Duration of a phase.")
@click.option("--steady", type=float, help="Duration of the steady load.  [default: --seconds]")
@click.option("--overload", type=float, help="Duration of the overload.  [default: --seconds]")
@click.option("--recovery", default=11.0, show_default=True, help="Seconds to observe after a surge.")
@click.option("--rounds", default=3, show_default=True, help="Repetitions of each measurement.")
@click.option("--texts", "limit", default=1000, show_default=True, help="Number of texts that are sent.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    default=PARTS,
    show_default=True,
    help="What to measure; the output keeps its result for the other part.",
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
    """Measure `manylabel serve BUNDLE`: its speed beside other servers, and its behaviour under load."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # overload needs many connections at once
    opened = Bundle.open(bundle)
    labelled = read_dataset(data).part("test").reorder(opened.labels)
    labelled = labelled.take(random.Random(0).sample(range(len(labelled)), min(limit, len(labelled))))
    specs = [servers.manylabel_server(bundle)]
    if rivals and checkpoint:
        specs.append(baselines.fastapi_pipeline_server(rivals, checkpoint))
        specs.append(baselines.infinity_server(rivals, checkpoint))
    measured = {}
    with TemporaryDirectory() as scratch:
        if "speed" in parts:
            provenance = _describe_run(_read_versions(rivals) if rivals else {})
            compared = _compare_speed(opened, labelled, specs, Path(scratch), seconds=seconds / 3, rounds=rounds)
            measured["speed"] = {**provenance, **compared}
        if "load" in parts:
            config = scenarios.LoadTestConfig(seconds, steady or seconds, overload or seconds, recovery, rounds=rounds)
            with servers.start_server(specs[0], labelled.texts[0], Path(scratch) / "log") as server:
                measured["load"] = {**_describe_run({}), **scenarios.run_scenarios(server, labelled.texts, config)}
    report.update_report(measured, output)
    click.echo((output / "README.md").read_text())


def _describe_run(versions: dict[str, str]) -> dict[str, Any]:
    """Return the command and the machine of a part."""
    machine = describe_hardware()
    machine["versions"] = {**machine["versions"], **versions}
    return {"command": shlex.join(["python", "-m", "load_tests", *sys.argv[1:]]), "machine": machine}


def _compare_speed(
    bundle: Bundle, data: Dataset, specs: list[servers.ServerSpec], scratch: Path, *, seconds: float, rounds: int
) -> dict[str, Any]:
    """Measure single texts, the highest rates and accuracy, with all servers running and one under load at a time."""
    texts = write_texts(scratch / "texts.json", data.texts)
    precision = "int8" if "int8" in bundle.variants else "fp32"
    with ExitStack() as stack:
        running = [
            stack.enter_context(servers.start_server(spec, data.texts[0], scratch / f"log{at}"))
            for at, spec in enumerate(specs)
        ]
        config = ContenderConfig(
            bundle=str(bundle.path),
            checkpoint=None,
            prepared=str(scratch),
            threads=available_cores(),
            max_length=bundle.manifest.max_length,
        )
        in_process = stack.enter_context(process.start_contender(bundle_contender(precision), config, texts))
        return {
            "precision": precision,
            "one_text": throughput.compare_single_texts(running[0], in_process, texts, data.texts[:300], rounds),
            "rates": throughput.find_highest_rates(running, data.texts, seconds=seconds, rounds=rounds),
            "accuracy": {
                server.spec.name: throughput.measure_accuracy(
                    server, bundle, data, precision if server is running[0] else "fp32"
                )
                for server in running
            },
        }


def _read_versions(python: Path) -> dict[str, str]:
    done = subprocess.run([str(python), "-c", VERSIONS, *BASELINE_PACKAGES], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


if __name__ == "__main__":
    main()
