"""What do calibration and goals do on the test split?

`python -m experiments.calibration.run RUN --data DATA.csv --output FOLDER --title TITLE` scores a run's checkpoint on
the validation and test splits, and writes `result.json` and `README.md`. Nothing is trained.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import click

from experiments.calibration.guarantee_coverage import DRAWS, FLOORS, GUARANTEES, chance, floor_kept, guarantee_kept
from manylabel.errors import ManylabelError
from manylabel_bench.hardware import describe_hardware
from manylabel_train.calibration.fit import CalibrationMethod, calibrate_held_out, fit_calibration, parse_calibration
from manylabel_train.calibration.platt import log_loss, to_logits
from manylabel_train.data.dataset import read_dataset
from manylabel_train.data.training_run import read_run
from manylabel_train.evaluation.metrics import calibration_errors, multilabel_metrics
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.thresholds.objectives import Objectives
from manylabel_train.thresholds.selection import ScoredTexts, select_thresholds

METHODS: tuple[CalibrationMethod, ...] = ("none", "temperature", "platt")
KEPT = ("held", "mean", "other")
GIVEN = ("given", "broken", "most", "short_elsewhere", "mean", "other")
COLUMNS = (
    "calibration",
    "labels changed",
    "log-loss",
    "error, validation",
    "error, test",
    "micro-F1 at 0.5",
    "macro-F1 at 0.5",
    "micro-F1 tuned",
    "macro-F1 tuned",
)


def score(run: Path, data: Path) -> tuple[tuple[str, ...], ScoredTexts, ScoredTexts]:
    """The labels, and a run's scores on validation and test as they were before it was calibrated."""
    said, rows = read_run(run), read_dataset(data)
    rows = rows.reorder(said.labels)
    model, _ = checkpoint.load_model(str(run))
    tokenizer = checkpoint.load_tokenizer(str(run))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, said.max_length, make_long_text(said.max_length))
    done = parse_calibration(said.details.get("calibration", {}).get("labels", {}), said.labels)
    parts = [rows.part(name) for name in ("validation", "test")]
    found = [
        ScoredTexts(done.undo(checkpoint.predict_proba(model, reader, part.texts)), part.targets) for part in parts
    ]
    return said.labels, found[0], found[1]


def compare(labels: tuple[str, ...], validation: ScoredTexts, test: ScoredTexts) -> list[dict[str, Any]]:
    """Log-loss, calibration error and F1 on the test split, a method of calibration at a time."""
    rows = []
    for method in METHODS:
        calibration = fit_calibration(validation.probabilities, validation.targets, method)
        fitted, found = (calibration.apply(part.probabilities) for part in (validation, test))
        fair = calibrate_held_out(validation.probabilities, validation.targets, method)
        tuned = select_thresholds(ScoredTexts(fitted, validation.targets), labels, Objectives()).thresholds
        half, at_tuned = (multilabel_metrics(found, test.targets, at) for at in (0.5, tuned))
        rows.append(
            {
                "method": method,
                "labels_changed": int(calibration.changed.sum()),
                "log_loss": float(log_loss(to_logits(found), test.targets).sum(axis=1).mean()),
                "error_validation": calibration_errors(fair, validation.targets, labels)["mean"],
                "error_test": calibration_errors(found, test.targets, labels)["mean"],
                "at_half": {name: half[name] for name in ("micro_f1", "macro_f1")},
                "tuned": {name: at_tuned[name] for name in ("micro_f1", "macro_f1")},
            }
        )
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The tables with what they were measured on and by."""
    machine = result["machine"]
    methods = [
        [
            row["method"],
            str(row["labels_changed"]),
            f"{row['log_loss']:.4f}",
            *(f"{row[name]:.5f}" for name in ("error_validation", "error_test")),
            *(f"{row[at][name]:.4f}" for at in ("at_half", "tuned") for name in ("micro_f1", "macro_f1")),
        ]
        for row in result["methods"]
    ]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{result['command']}`",
            "",
            f"A run of {result['labels']} labels, {result['texts']['validation']:,} validation and "
            f"{result['texts']['test']:,} test texts. Calibration and thresholds come from validation. Log-loss is a "
            "text's, summed over labels; calibration error is the mean over labels, of validation by held-out folds.",
            "",
            *_table(
                [*COLUMNS],
                methods,
            ),
            "",
            "Floors for every label, chosen on the validation split, as they come out on the test split:",
            "",
            *_table(
                ["floor", "labels", "share held", "mean of the figure", "mean of the other"],
                _goals(result["floors"], KEPT),
            ),
            "",
            f"Guarantees: {DRAWS:,} times half as many texts as the test split has are drawn from it, with "
            "replacement, and guarantees proved on them, for the labels with texts enough. The test split is then all "
            "texts of their kind, and has the figure. What the confidence bounds is the share of all draws in which a "
            "guarantee is given and broken; a label for which that were 0.05 would exceed "
            f"{chance(GUARANTEES[0]):.3f} once in a thousand times. Of those given, the share short of the floor on "
            "another draw of as many texts is higher: these few have noise of their own.",
            "",
            *_table(
                [
                    "guarantee",
                    "labels",
                    "given",
                    "given and broken",
                    "the same, of the label with most",
                    "of those given, short on other texts",
                    "mean of the figure",
                    "mean of the other",
                ],
                _goals(result["guarantees"], GIVEN),
            ),
            "",
            f"Machine: {machine['cpu']}, Python {machine['python']}, "
            + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
            + ".",
            "",
        ]
    )


def _goals(found: list[dict[str, Any]], columns: tuple[str, ...]) -> list[list[str]]:
    figures = ([row[name] for name in columns] for row in found)
    return [
        [row["goal"], str(row["labels"]), *("-" if value is None else f"{value:.3f}" for value in values)]
        for row, values in zip(found, figures, strict=True)
    ]


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The file that it was trained on.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
@click.option("--title", required=True, help="Heads README.md.")
def main(run: Path, data: Path, output: Path, title: str) -> None:
    """Measure calibration and goals with RUN's checkpoint."""
    try:
        labels, validation, test = score(run, data)
    except ManylabelError as exc:
        raise click.ClickException(str(exc)) from exc
    words = ["--data", f"../shared/data/{data.parent.name}/{data.name}", "--output", "FOLDER", "--title", title]
    result = {
        "title": title,
        "command": shlex.join(["python", "-m", "experiments.calibration.run", f"build/{run.name}", *words]),
        "labels": len(labels),
        "texts": {"validation": len(validation.targets), "test": len(test.targets)},
        "methods": compare(labels, validation, test),
        "floors": [floor_kept(labels, validation, test, goal) for goal in FLOORS],
        "guarantees": [guarantee_kept(labels, validation, test, goal) for goal in GUARANTEES],
        "machine": describe_hardware() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (output / "README.md").write_text(markdown(result), encoding="utf-8")
    click.echo(markdown(result))


if __name__ == "__main__":
    main()
