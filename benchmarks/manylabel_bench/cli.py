"""`manylabel bench`."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from manylabel.errors import DataError
from manylabel_bench.scenarios import ALONE, TURNS
from manylabel_train.cli.command_setup import require_export_extra
from manylabel_train.cli.data_options import data_options, read_data

DEFAULT = ("bulk", "single", "size")
file_path = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Labelled texts; of a file with splits, the test split. Several make a mix.",
)
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Texts for their length alone, mixed in: labels of other names are left aside, and F1 does not see them.",
)
@click.option("--checkpoint", type=file_path, help="The PyTorch checkpoint: for all rivals but plain onnxruntime.")
@data_options
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice([*TURNS, *ALONE]),
    multiple=True,
    default=DEFAULT,
    help=f"What is measured; may be repeated.  [default: {', '.join(DEFAULT)}]",
)
@click.option(
    "--contender",
    "names",
    metavar="NAME",
    multiple=True,
    help="Who is measured, such as 'manylabel int8', pipeline or 'openvino int8'; may be repeated.  "
    "[default: all that can run here]",
)
@click.option("--threads", type=click.IntRange(min=1), help="For every contender.  [default: all that are granted]")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Of a contender's turn at most, where texts come one at a time.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Take this many texts of a file at most, drawn at random; 0 takes all.",
)
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep rivals' models here, for the next time.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="A folder for result.json, README.md and pictures."
)
@click.option("--add", is_flag=True, help="Add to the result in --output: more rounds, contenders or scenarios.")
@click.option("--title", default="", help="Heads README.md.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@require_export_extra
def bench(**options: Any) -> None:
    """Measure BUNDLE's speed, memory and accuracy on this machine, beside what would be taken instead.

    Everyone has a process of its own and the same threads, and they take turns. Who is not installed is skipped and
    named: pip install "manylabel[bench,rivals]" brings OpenVINO, NNCF and sentence-transformers.
    """
    from manylabel import Bundle
    from manylabel.system.cpu_quota import available_cores
    from manylabel_bench import compare, roofline
    from manylabel_bench.machine import describe
    from manylabel_bench.results import document, report

    if options["add"] and options["output"] is None:
        raise click.UsageError("--add needs the --output that holds the result to add to.")
    if not options["files"] and not options["unlabelled"]:
        raise click.UsageError("there are no texts to measure on. Name a file with --data, or with --unlabelled.")
    bundle = Bundle.open(options["bundle"])
    workload, sample = _texts(bundle, options)
    threads = options["threads"] or available_cores()
    machine = describe()
    head = {
        "machine": machine,
        "peak": roofline.measure(threads),
        "operations_per_token": roofline.operations_per_token(bundle.path / "config.json"),
        "threads": threads,
        "texts": len(workload.data),
        "bundle": {
            "digest": bundle.digest,
            "labels": len(bundle.labels),
            "parity": {name: asdict(parity) for name, parity in bundle.manifest.certificate.parity.items()},
        },
        "workload": workload.describe(),
        "same_alone_and_in_company": compare.alone_and_in_company(bundle, workload.data.texts[: compare.COMPANY]),
    }
    before = document.read(options["output"]) if options["add"] else None
    if before:
        document.check_same(before, head)
    plan = compare.Plan(options["scenarios"], options["names"], threads, options["rounds"], options["seconds"])
    with _scratch(options["scratch"]) as scratch:
        found = compare.compare(bundle, workload, options["checkpoint"], sample, scratch, plan)
    piece = {
        "command": shlex.join(["manylabel", *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "load_1min": machine["load_1min"],
        "mhz": machine["mhz"],
    }
    measured = document.document(head, piece, found)
    measured = document.added(before, measured) if before else measured
    click.echo(json.dumps(measured) if options["as_json"] else report.plain(measured))
    if options["output"]:
        report.write(measured, options["output"], title=options["title"] or options["output"].name)


def _texts(bundle: Any, options: dict[str, Any]) -> Any:
    """The workload, and texts like those that are not in it."""
    import numpy as np

    from manylabel_bench.runner import workload
    from manylabel_train.data.dataset import Dataset

    parts, others = [], []
    paths = (*options["files"], *options["unlabelled"])
    plain = len({path.name for path in paths}) == len(paths)
    for path in paths:
        labelled = path in options["files"]
        data = read_data(path, options if labelled else {**options, "label_names": None})
        measured = data.part("test") if "test" in data.split else data
        if len(measured) == 0:
            raise DataError(f"{path.name} holds no texts to measure on.")
        if labelled:
            measured = measured.reorder(bundle.labels)
        else:
            unknown = np.full((len(measured), len(bundle.labels)), np.nan, dtype=np.float32)
            measured = Dataset(measured.texts, unknown, bundle.labels)
        parts.append((path.name if plain else f"{path.parent.name}/{path.name}", measured))
        others.append(data.part("validation").texts if "validation" in data.split else measured.texts)
    mixed = workload.gather(bundle, parts, options["limit"])
    return mixed, workload.sample(others, list(mixed.sources.values()))


@contextmanager
def _scratch(kept: Path | None) -> Iterator[Path]:
    if kept:
        yield kept
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
