"""What do calibration and threshold objectives achieve on the test split?

`python -m experiments.calibration.run RUN --data DATA.csv --output FOLDER --title TITLE` scores a run's checkpoint on
the validation and test splits, and writes `result.json` and `README.md`. Nothing is trained.
"""

from pathlib import Path
from typing import Any

import click

from experiments.calibration.guarantee_coverage import (
    DRAWS,
    GUARANTEES,
    MINIMUMS,
    broken_share_limit,
    check_guarantee,
    check_minimum,
)
from experiments.common import result_io
from manylabel.errors import ManylabelError
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
MINIMUM_COLUMNS = ("held", "mean", "other")
GUARANTEE_COLUMNS = ("given", "broken", "most", "short_elsewhere", "mean", "other")
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


def score_splits(run: Path, data: Path) -> tuple[tuple[str, ...], ScoredTexts, ScoredTexts]:
    """Return the labels, and a run's scores on validation and test before calibration."""
    details, rows = read_run(run), read_dataset(data)
    rows = rows.reorder(details.labels)
    model, _ = checkpoint.load_model(str(run))
    tokenizer = checkpoint.load_tokenizer(str(run))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, details.max_length, make_long_text(details.max_length))
    calibration = parse_calibration(details.details.get("calibration", {}).get("labels", {}), details.labels)
    parts = [rows.part(name) for name in ("validation", "test")]
    validation, test = (
        ScoredTexts(calibration.undo(checkpoint.predict_proba(model, reader, part.texts)), part.targets)
        for part in parts
    )
    return details.labels, validation, test


def compare_methods(labels: tuple[str, ...], validation: ScoredTexts, test: ScoredTexts) -> list[dict[str, Any]]:
    """Compute log-loss, calibration error and F1 on the test split for each method of calibration."""
    rows = []
    for method in METHODS:
        calibration = fit_calibration(validation.probabilities, validation.targets, method)
        fitted, calibrated = (calibration.apply(part.probabilities) for part in (validation, test))
        cross_validated = calibrate_held_out(validation.probabilities, validation.targets, method)
        tuned = select_thresholds(ScoredTexts(fitted, validation.targets), labels, Objectives()).thresholds
        half, at_tuned = (multilabel_metrics(calibrated, test.targets, at) for at in (0.5, tuned))
        rows.append(
            {
                "method": method,
                "labels_changed": int(calibration.changed.sum()),
                "log_loss": float(log_loss(to_logits(calibrated), test.targets).sum(axis=1).mean()),
                "error_validation": calibration_errors(cross_validated, validation.targets, labels)["mean"],
                "error_test": calibration_errors(calibrated, test.targets, labels)["mean"],
                "at_half": {name: half[name] for name in ("micro_f1", "macro_f1")},
                "tuned": {name: at_tuned[name] for name in ("micro_f1", "macro_f1")},
            }
        )
    return rows


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
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
            f"{result['texts']['test']:,} test texts. Calibration and thresholds are fitted on validation. Log-loss "
            "is per text, summed over labels; calibration error is the mean over labels, on validation by "
            "cross-validation.",
            "",
            *_table(
                [*COLUMNS],
                methods,
            ),
            "",
            "Minimums for every label, tuned on the validation split and checked on the test split:",
            "",
            *_table(
                ["minimum", "labels", "share held", "mean of the figure", "mean of the other"],
                _goals(result["floors"], MINIMUM_COLUMNS),
            ),
            "",
            f"Guarantees: {DRAWS:,} times, half as many texts as the test split has are drawn from it with "
            "replacement, and guarantees are tested on them, for the labels with enough texts. The test split is "
            "then the distribution that the guarantee is about. The confidence bounds the share of all draws in "
            "which a guarantee is given and broken; a label for which this share is 0.05 would exceed "
            f"{broken_share_limit(GUARANTEES[0]):.3f} once in 1,000 repetitions. Among the guarantees given, the "
            "share below the minimum on another draw of the same size is higher: such a small sample has sampling "
            "error itself.",
            "",
            *_table(
                [
                    "guarantee",
                    "labels",
                    "given",
                    "given and broken",
                    "given and broken, worst label",
                    "of those given, below on another draw",
                    "mean of the figure",
                    "mean of the other",
                ],
                _goals(result["guarantees"], GUARANTEE_COLUMNS),
            ),
            "",
            f"Machine: {machine['cpu']}, Python {machine['python']}, "
            + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
            + ".",
            "",
        ]
    )


def _goals(results: list[dict[str, Any]], columns: tuple[str, ...]) -> list[list[str]]:
    figures = ([row[name] for name in columns] for row in results)
    return [
        [row["goal"], str(row["labels"]), *("-" if value is None else f"{value:.3f}" for value in values)]
        for row, values in zip(results, figures, strict=True)
    ]


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The file that the run was trained on.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
@click.option("--title", required=True, help="The title of README.md.")
def main(run: Path, data: Path, output: Path, title: str) -> None:
    """Measure calibration and threshold objectives with the checkpoint of RUN."""
    try:
        labels, validation, test = score_splits(run, data)
    except ManylabelError as exc:
        raise click.ClickException(str(exc)) from exc
    options = {"data": result_io.portable_path(data), "output": "FOLDER", "title": title}
    result = {
        "title": title,
        "command": result_io.format_command("calibration", [f"build/{run.name}"], options, {}),
        "labels": len(labels),
        "texts": {"validation": len(validation.targets), "test": len(test.targets)},
        "methods": compare_methods(labels, validation, test),
        "floors": [check_minimum(labels, validation, test, goal) for goal in MINIMUMS],
        "guarantees": [check_guarantee(labels, validation, test, goal) for goal in GUARANTEES],
        "machine": result_io.describe_machine(),
    }
    result_io.write_result(result, output, render_readme)
    click.echo(render_readme(result))


if __name__ == "__main__":
    main()
