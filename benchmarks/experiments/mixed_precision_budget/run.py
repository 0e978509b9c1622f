"""What does a tighter budget cost? A variant is exported under several, and judged on texts that it was not held to.

A budget is measured on validation texts, by which products are chosen to stay in fp32; the test texts say what is left
of that on others.
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

HEAD = ("allowed", "validation", "products in fp32", "takes", "MB", "test", "micro-F1", "macro-F1")
PRECISIONS = ("fp32", "int8")


def measure(run: Path, test: Dataset, flips: float, scratch: Path) -> dict[str, Any]:
    """What comes of int8 where this share of the texts may get other labels.

    Args:
        run: A finished training, with its validation texts.
        test: Texts that neither thresholds nor budget have seen, labels in the run's order.
        flips: The budget.
        scratch: A folder for the bundle.
    """
    bundle = export(run, scratch / "bundle", precisions=PRECISIONS, budget=Budget(None, flips), force=True)
    certificate = bundle.manifest.certificate
    if "int8" not in bundle.variants:
        return {"flips": flips, "refused": certificate.refused["int8"]}
    rescue = bundle.variants["int8"].rescue
    judged = certify(bundle, test.texts, data="test", targets=test.targets, device="cpu")
    return {
        "flips": flips,
        "bytes": bundle.manifest.files[bundle.variants["int8"].file].bytes,
        "kept": list(rescue.kept) if rescue else [],
        "products": rescue.products if rescue else None,
        "slowdown": rescue.slowdown if rescue else 1.0,
        "validation": _figures(certificate.parity["int8"]),
        "test": _figures(judged.parity["int8"]),
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


def _row(found: Mapping[str, Any]) -> list[str]:
    allowed = f"{found['flips']:.2%}"
    if "refused" in found:
        return [allowed, "refused", *[""] * (len(HEAD) - 2)]
    test = found["test"]
    return [
        allowed,
        f"{found['validation']['flips']:.2%}",
        f"{len(found['kept'])} of {found['products']}" if found["kept"] else "none",
        f"{found['slowdown']:.2f}x",
        f"{found['bytes'] / 1e6:.1f}",
        f"{test['flips']:.2%}",
        f"{test['micro_f1_change']:+.4f}",
        f"{test['macro_f1_change']:+.4f}",
    ]


def page(result: Mapping[str, Any]) -> str:
    """The table with what it was measured on, and what was kept or refused."""
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
            "int8 exported under tighter and tighter budgets. Allowed, and found on validation and on test: of the "
            "texts that get a label, the share that gets other labels than from PyTorch (on test: than from the fp32 "
            "graph). F1 on test, beside fp32 on the same texts. Time on a few of the validation texts, as a multiple "
            "of int8 without products in fp32.",
            "",
            *tables.to_markdown([list(HEAD), *map(_row, runs)]),
            "",
            "Kept in fp32, the most harmful first:",
            "",
            *notes,
            "",
            f"`{result['command']}`",
            "",
            result_io.machine_line(result["machine"]),
            "",
        ]
    )


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The run's CSV file, with a test split.")
@click.option(
    "--flips", type=click.FloatRange(0, 1), multiple=True, default=(0.02, 0.015, 0.01, 0.005), show_default=True
)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A folder for result.json and README.md."
)
@click.option("--title", required=True, help="Heads README.md.")
def main(run: Path, data: Path, flips: Sequence[float], output: Path, title: str) -> None:
    """Export RUN under several budgets, and judge what comes of it on the test split."""
    test = read_dataset(data).part("test").reorder(read_run(run).labels)
    result: dict[str, Any] = {
        "title": title,
        "command": result_io.command(
            "rescue",
            [str(run)],
            {"data": result_io.data_path(data), "output": output, "title": title},
            {"flips": flips},
        ),
        "machine": describe_hardware(),
        "runs": [],
    }
    with TemporaryDirectory() as scratch:
        for budget in tqdm(flips, unit="export"):
            result["runs"].append(measure(run, test, budget, Path(scratch)))
            result_io.write(result, output, page(result))
    click.echo(page(result))


if __name__ == "__main__":
    main()
