"""What do calibration and goals do on the test split?

`python -m manylabel_bench.calibration RUN --data DATA.csv --output FOLDER --title TITLE` scores a run's checkpoint on
the validation and test splits, and writes `result.json` and `README.md`. Nothing is trained.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from manylabel.errors import ManylabelError
from manylabel_bench.machine import describe
from manylabel_export import checkpoint
from manylabel_export.calibration import Method, fit_calibration, held_out, read_calibration
from manylabel_export.calibration_error import calibration_errors
from manylabel_export.choosing import Scored, choose_thresholds
from manylabel_export.goals import Goal, Goals
from manylabel_export.guarantees import fewest
from manylabel_export.metrics import multilabel_metrics, per_label_metrics
from manylabel_export.platt import log_loss, logits_of
from manylabel_export.reading import read
from manylabel_export.training import long_text_for, read_run

METHODS: tuple[Method, ...] = ("none", "temperature", "platt")
FLOORS = (Goal("precision", 0.9), Goal("recall", 0.9), Goal("precision", 0.8, 0.95), Goal("recall", 0.9, 0.95))
HALVINGS = 20
REACHED = ("held", "mean", "other")
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


def score(run: Path, data: Path) -> tuple[tuple[str, ...], Scored, Scored]:
    """The labels, and a run's scores on validation and test as they were before it was calibrated."""
    said, rows = read_run(run), read(data)
    rows = rows.reorder(said.labels)
    model, _ = checkpoint.load_model(str(run))
    tokenizer = checkpoint.load_tokenizer(str(run))
    reader = checkpoint.runtime_tokenizer(tokenizer, said.max_length, long_text_for(said.max_length))
    done = read_calibration(said.details.get("calibration", {}).get("labels", {}), said.labels)
    parts = [rows.part(name) for name in ("validation", "test")]
    found = [Scored(done.undo(checkpoint.predict_proba(model, reader, part.texts)), part.targets) for part in parts]
    return said.labels, found[0], found[1]


def compare(labels: tuple[str, ...], validation: Scored, test: Scored) -> list[dict[str, Any]]:
    """Log-loss, calibration error and F1 on the test split, a method of calibration at a time."""
    rows = []
    for method in METHODS:
        calibration = fit_calibration(validation.probabilities, validation.targets, method)
        fitted, found = (calibration.apply(part.probabilities) for part in (validation, test))
        fair = held_out(validation.probabilities, validation.targets, method)
        tuned = choose_thresholds(Scored(fitted, validation.targets), labels, Goals()).thresholds
        half, at_tuned = (multilabel_metrics(found, test.targets, at) for at in (0.5, tuned))
        rows.append(
            {
                "method": method,
                "labels_changed": int(calibration.changed.sum()),
                "log_loss": float(log_loss(logits_of(found), test.targets).sum(axis=1).mean()),
                "error_validation": calibration_errors(fair, validation.targets, labels)["mean"],
                "error_test": calibration_errors(found, test.targets, labels)["mean"],
                "at_half": {name: half[name] for name in ("micro_f1", "macro_f1")},
                "tuned": {name: at_tuned[name] for name in ("micro_f1", "macro_f1")},
            }
        )
    return rows


def reach(labels: tuple[str, ...], validation: Scored, test: Scored, goal: Goal) -> dict[str, Any]:
    """How a floor for every label comes out on test texts, over random halves of the test split.

    A floor is chosen on the validation split. A guarantee is proved on one half of the test split, for the labels that
    have texts enough there, since the validation split has chosen the run's epoch. Both are measured on the other half.
    """
    needed, outcomes = fewest(goal.value, goal.confidence) if goal.confidence else 1, []
    for seed in range(HALVINGS):
        proof, judged = _halves(test, seed)
        enough = (proof.targets == 1).sum(axis=0) >= needed
        named = {label: goal for label, has in zip(labels, enough, strict=True) if has}
        chosen = choose_thresholds(validation, labels, Goals(named=named), aside=proof)
        found = per_label_metrics(judged.probabilities, judged.targets, labels, chosen.thresholds)
        given = [label for label in named if label not in chosen.unmet and found[label]["support"]]
        outcomes.append([(found[label][goal.figure], found[label][_other(goal)]) for label in given])
    every = np.array([pair for one in outcomes for pair in one]).reshape(-1, 2)
    return {
        "goal": str(goal),
        "labels": float(np.mean([len(one) for one in outcomes])),
        "held": float((every[:, 0] >= goal.value).mean()) if len(every) else None,
        "mean": float(every[:, 0].mean()) if len(every) else None,
        "other": float(every[:, 1].mean()) if len(every) else None,
    }


def _halves(test: Scored, seed: int) -> tuple[Scored, Scored]:
    order = np.random.default_rng(seed).permutation(len(test.targets))
    parts: list[NDArray[np.intp]] = np.array_split(order, 2)
    one, other = (Scored(test.probabilities[rows], test.targets[rows]) for rows in parts)
    return one, other


def _other(goal: Goal) -> str:
    return "recall" if goal.figure == "precision" else "precision"


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
    goals = [
        [row["goal"], f"{row['labels']:.1f}", *("-" if row[name] is None else f"{row[name]:.3f}" for name in REACHED)]
        for row in result["goals"]
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
            f"Goals for every label, on {HALVINGS} random halves of the test split. A floor without a confidence is "
            "chosen on the validation split; one with a confidence is proved on the other half of the test split (the "
            "validation split has chosen the epoch), for labels with texts enough and where the proof succeeds. A "
            "share held below the confidence is no breach by itself: the half it is measured on has noise of its own.",
            "",
            *_table(["goal", "labels", "share held", "mean of the figure", "mean of the other"], goals),
            "",
            f"Machine: {machine['cpu']}, Python {machine['python']}, "
            + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
            + ".",
            "",
        ]
    )


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
        "command": shlex.join(["python", "-m", "manylabel_bench.calibration", f"build/{run.name}", *words]),
        "labels": len(labels),
        "texts": {"validation": len(validation.targets), "test": len(test.targets)},
        "methods": compare(labels, validation, test),
        "goals": [reach(labels, validation, test, goal) for goal in FLOORS],
        "machine": describe() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (output / "README.md").write_text(markdown(result), encoding="utf-8")
    click.echo(markdown(result))


if __name__ == "__main__":
    main()
