"""What does a tighter budget cost? int8 is exported under several budgets and evaluated on other texts.

The budget is checked on validation texts, with which the linear layers that stay in fp32 are chosen; the test texts
show how much of that carries over to other texts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from tqdm import tqdm

from experiments.common import result_io
from manylabel.bundle.certificate import Budget, Parity
from manylabel.certify.certify import certify
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.results import tables
from manylabel_export.pipeline import export
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.data.training_run import read_run

HEAD = ("allowed", "validation", "layers in fp32", "time", "MB", "test", "micro-F1", "macro-F1")
PRECISIONS = ("fp32", "int8")


def export_within_budget(run: Path, test: Dataset, flips: float, scratch: Path) -> dict[str, Any]:
    """Export int8 with a budget of changed labels, and evaluate it on the test split.

    Args:
        run: A finished training, with its validation texts.
        test: Texts that neither thresholds nor budget have seen, labels in the run's order.
        flips: The budget: the share of texts that may get other labels.
        scratch: A folder for the bundle.
    """
    bundle = export(run, scratch / "bundle", precisions=PRECISIONS, budget=Budget(None, flips), force=True)
    certificate = bundle.manifest.certificate
    if "int8" not in bundle.variants:
        return {"flips": flips, "refused": certificate.refused["int8"]}
    rescue = bundle.variants["int8"].rescue
    evaluated = certify(bundle, test.texts, data="test", targets=test.targets, device="cpu")
    return {
        "flips": flips,
        "bytes": bundle.manifest.files[bundle.variants["int8"].file].bytes,
        "kept": list(rescue.kept) if rescue else [],
        "products": rescue.products if rescue else None,
        "slowdown": rescue.slowdown if rescue else 1.0,
        "validation": _figures(certificate.parity["int8"]),
        "test": _figures(evaluated.parity["int8"]),
    }


def _figures(parity: Parity) -> dict[str, float]:
    assert parity.quality  # both sets have labels
    return {
        "flips": parity.flips,
        "decisions": parity.flipped,
        "mean_difference": parity.mean_difference,
        "micro_f1_change": parity.quality.micro_f1_change.value,
        "macro_f1_change": parity.quality.macro_f1_change.value,
    }


def _row(measured: Mapping[str, Any]) -> list[str]:
    allowed = f"{measured['flips']:.2%}"
    if "refused" in measured:
        return [allowed, "refused", *[""] * (len(HEAD) - 2)]
    test = measured["test"]
    return [
        allowed,
        f"{measured['validation']['flips']:.2%}",
        f"{len(measured['kept'])} of {measured['products']}" if measured["kept"] else "none",
        f"{measured['slowdown']:.2f}x",
        f"{measured['bytes'] / 1e6:.1f}",
        f"{test['flips']:.2%}",
        f"{test['micro_f1_change']:+.4f}",
        f"{test['macro_f1_change']:+.4f}",
    ]


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    runs = result["runs"]
    notes = [
        f"- {run['flips']:.2%}: " + (f"refused: {run['refused']}" if "refused" in run else ", ".join(run["kept"]))
        for run in runs
        if "refused" in run or run["kept"]
    ]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            "int8 exported under increasingly tight budgets. The budget, and the figures on validation and test, are "
            "the share of texts with at least one label whose labels differ from PyTorch's (on test: from the fp32 "
            "graph's). F1 is the change on test compared with fp32. Time is measured on a few of the validation texts, "
            "as a multiple of int8 without layers in fp32.",
            "",
            *tables.to_markdown([list(HEAD), *map(_row, runs)]),
            "",
            "Layers kept in fp32, those that change most labels first:",
            "",
            *notes,
            "",
            f"`{result['command']}`",
            "",
            result_io.format_machine(result["machine"]),
            "",
        ]
    )


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The run's CSV file, with a test split.")
@click.option(
    "--flips",
    type=click.FloatRange(0, 1),
    multiple=True,
    default=(0.02, 0.015, 0.01, 0.005),
    show_default=True,
    help="A budget.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A folder for result.json and README.md."
)
@click.option("--title", required=True, help="The title of README.md.")
def main(run: Path, data: Path, flips: Sequence[float], output: Path, title: str) -> None:
    """Export RUN under several budgets, and evaluate each on the test split."""
    test = read_dataset(data).part("test").reorder(read_run(run).labels)
    result: dict[str, Any] = {
        "title": title,
        "command": result_io.format_command(
            "mixed_precision_budget",
            [str(run)],
            {"data": result_io.portable_path(data), "output": output, "title": title},
            {"flips": flips},
        ),
        "machine": describe_hardware(),
        "runs": [],
    }
    with TemporaryDirectory() as scratch:
        for budget in tqdm(flips, unit="export"):
            result["runs"].append(export_within_budget(run, test, budget, Path(scratch)))
            result_io.write_result(result, output, render_readme)
    click.echo(render_readme(result))


if __name__ == "__main__":
    main()
