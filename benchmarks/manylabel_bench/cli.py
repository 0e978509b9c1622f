"""The command `manylabel bench`."""

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
from manylabel_bench.scenarios import LOADED, STANDALONE
from manylabel_train.cli.command_setup import require_export_extra
from manylabel_train.cli.data_options import data_options, read_data

DEFAULT_SCENARIOS = ("bulk", "single", "size")
file_path = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Labelled texts; the test split, if the file has splits. Repeat to mix several files.",
)
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Texts mixed in for their lengths only: their labels are ignored, and F1 leaves them out.",
)
@click.option(
    "--checkpoint", type=file_path, help="The PyTorch checkpoint, which all other contenders except onnxruntime need."
)
@data_options
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice([*LOADED, *STANDALONE]),
    multiple=True,
    default=DEFAULT_SCENARIOS,
    help=f"What to measure; may be repeated.  [default: {', '.join(DEFAULT_SCENARIOS)}]",
)
@click.option(
    "--contender",
    "names",
    metavar="NAME",
    multiple=True,
    help="Contenders to measure, such as 'manylabel int8', pipeline or 'openvino int8'; may be repeated.  "
    "[default: all that can run here]",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads for each contender.  [default: all available cores]"
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often each contender has its turn."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Upper bound of a contender's turn in scenarios that score texts one at a time.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Maximum number of texts from each file, drawn at random; 0 takes all.",
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="Keep the models that other contenders prepare here, for the next run.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A folder for result.json, README.md and plots.")
@click.option("--add", is_flag=True, help="Add rounds, contenders or scenarios to the result in --output.")
@click.option("--title", default="", help="The title of README.md.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@require_export_extra
def bench(**options: Any) -> None:
    """Measure the speed, memory and accuracy of BUNDLE on this machine, beside other ways to run the model.

    Each contender has a process of its own and the same number of threads, and they take turns. Contenders that are not
    installed are skipped and listed: pip install "manylabel[bench,rivals]" installs OpenVINO, NNCF and
    sentence-transformers.
    """
    from manylabel.hub import open_bundle
    from manylabel.system.hardware_info import available_cores
    from manylabel_bench import compare, hardware
    from manylabel_bench.results import document, report

    if options["add"] and options["output"] is None:
        raise click.UsageError("--add needs --output, the folder with the result to add to.")
    if not options["files"] and not options["unlabelled"]:
        raise click.UsageError("there are no texts to measure. Name a file with --data or --unlabelled.")
    bundle = open_bundle(options["bundle"])
    workload, sample = _load_texts(bundle, options)
    threads = options["threads"] or available_cores()
    machine = hardware.describe_hardware()
    head = {
        "machine": machine,
        "peak": hardware.measure_peak(threads),
        "operations_per_token": hardware.operations_per_token(bundle.path / "config.json"),
        "threads": threads,
        "texts": len(workload.data),
        "bundle": {
            "digest": bundle.digest,
            "labels": len(bundle.labels),
            "parity": {name: asdict(parity) for name, parity in bundle.manifest.certificate.parity.items()},
        },
        "workload": workload.describe(),
        "same_alone_and_in_company": compare.measure_batch_invariance(
            bundle, workload.data.texts[: compare.INVARIANCE_TEXTS]
        ),
    }
    before = document.read_document(options["output"]) if options["add"] else None
    if before:
        document.check_comparable(before, head)
    config = compare.BenchConfig(options["scenarios"], options["names"], threads, options["rounds"], options["seconds"])
    with _scratch_folder(options["scratch"]) as scratch:
        measured = compare.compare_contenders(bundle, workload, options["checkpoint"], sample, scratch, config)
    piece = {
        "command": shlex.join(["manylabel", *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "load_1min": machine["load_1min"],
        "mhz": machine["mhz"],
    }
    result = document.build_document(head, piece, measured)
    result = document.merge_documents(before, result) if before else result
    click.echo(json.dumps(result) if options["as_json"] else report.render_text(result))
    if options["output"]:
        report.write_result_folder(result, options["output"], title=options["title"] or options["output"].name)


def _load_texts(bundle: Any, options: dict[str, Any]) -> Any:
    """Return the workload, and similar texts that are not part of it."""
    import numpy as np

    from manylabel_bench.runner import workload
    from manylabel_train.data.dataset import Dataset

    parts, others = [], []
    paths = (*options["files"], *options["unlabelled"])
    unique_names = len({path.name for path in paths}) == len(paths)
    for path in paths:
        labelled = path in options["files"]
        data = read_data(path, options if labelled else {**options, "label_names": None})
        measured = data.part("test") if "test" in data.split else data
        if len(measured) == 0:
            raise DataError(f"{path.name} contains no texts to measure.")
        if labelled:
            measured = measured.reorder(bundle.labels)
        else:
            unknown = np.full((len(measured), len(bundle.labels)), np.nan, dtype=np.float32)
            measured = Dataset(measured.texts, unknown, bundle.labels)
        parts.append((path.name if unique_names else f"{path.parent.name}/{path.name}", measured))
        others.append(data.part("validation").texts if "validation" in data.split else measured.texts)
    mixed = workload.build_workload(bundle, parts, options["limit"])
    return mixed, workload.sample_texts(others, list(mixed.sources.values()))


@contextmanager
def _scratch_folder(kept: Path | None) -> Iterator[Path]:
    if kept:
        yield kept
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
