"""Does `manylabel review-labels` find labels that were removed at random? Precision of its first suggestions.

`python -m experiments.label_noise.run DATA.csv --output FOLDER` removes a share of the labels of the training rows
(other splits are unchanged), scores every training row out of sample, with the quick method and with retrained models,
and counts how many of the first suggestions are removed labels. Labels that the data lacked before count as wrong
suggestions, so that the figures are lower bounds.
"""

import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.models import DEFAULT_MODEL, checkpoint
from manylabel_train.review.confident_learning import LabelIssues, find_label_issues
from manylabel_train.review.out_of_sample_scores import (
    RetrainConfig,
    Scores,
    average_in_logits,
    score_with_probe,
    score_with_retraining,
)
from manylabel_train.training.config import TrainConfig

TOP_N = (50, 100, 200, 400)
FOLDS_SEED = 42

Mask = NDArray[np.bool_]


def remove_labels(rows: Dataset, share: float, *, seed: int) -> tuple[Dataset, Mask]:
    """Remove a share of the labels; return the rows and the mask of removed labels, shape `(n, n_labels)`."""
    given = np.argwhere(rows.targets == 1)
    taken = given[np.random.default_rng(seed).permutation(len(given))[: int(share * len(given))]]
    removed = np.zeros(rows.targets.shape, dtype=bool)
    removed[tuple(taken.T)] = True
    return replace(rows, targets=np.where(removed, 0, rows.targets).astype(np.float32)), removed


def precision_at_n(issues: LabelIssues, removed: Mask) -> dict[str, float]:
    """Return the share of removed labels among the first suggestions, by their number."""
    correct = removed[issues.rows, issues.columns]
    return {str(first): round(float(correct[:first].mean()), 4) for first in TOP_N}


def score_rows(rows: Dataset, validation: Dataset, *, model: str, retrain: RetrainConfig | None) -> dict[str, Any]:
    """Return out-of-sample scores by method, and the seconds that each method took."""
    source, started = checkpoint.resolve_checkpoint(model), perf_counter()
    max_length = checkpoint.default_max_length(checkpoint.load_config(source))
    scores: dict[str, Scores] = {"quick": score_with_probe(source, rows, max_length=max_length, seed=FOLDS_SEED)}
    seconds = {"quick": perf_counter() - started}
    if retrain:
        scores["retrained"] = score_with_retraining(source, retrain, rows, validation)
        scores["retrained and quick"] = average_in_logits(scores["quick"], scores["retrained"])
        seconds["retrained"] = perf_counter() - started - seconds["quick"]
    return {"scores": scores, "seconds": seconds}


def measure_review(
    data: Dataset, share: float, seed: int, *, model: str, retrain: RetrainConfig | None
) -> dict[str, Any]:
    """Remove labels with one seed, and search for them with every method."""
    rows, removed = remove_labels(data.part("train"), share, seed=seed)
    scored = score_rows(rows, data.part("validation"), model=model, retrain=retrain)
    suspected = {way: find_label_issues(scores, rows.targets) for way, scores in scored["scores"].items()}
    return {
        "seed": seed,
        "removed": int(removed.sum()),
        "blind": round(float(removed.sum() / (rows.targets == 0).sum()), 4),
        "precision": {way: precision_at_n(each, removed) for way, each in suspected.items()},
        "confidence": {way: round(float(each.confidence[:200].mean()), 4) for way, each in suspected.items()},
        "seconds": {way: round(value) for way, value in scored["seconds"].items()},
    }


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    runs, machine = result["runs"], result["machine"]
    rows = [
        f"| {way} | {run['seed']} | "
        + " | ".join(f"{run['precision'][way][str(first)]:.3f}" for first in TOP_N)
        + f" | {run['confidence'][way]:.3f} |"
        for way in runs[0]["precision"]
        for run in runs
    ]
    return "\n".join(
        [
            f"# Finding labels that were removed: {result['title']}",
            "",
            f"`{result['command']}`",
            "",
            f"{result['share']:.0%} of the labels of {result['training_texts']:,} training texts were removed at "
            f"random ({runs[0]['removed']:,} labels). A suggestion is correct if it is one of these; labels that the "
            "data lacked before count as wrong, so that the figures are lower bounds. Random suggestions among the "
            f"labels not given would have a precision of {runs[0]['blind']:.1%}. `quick` is logistic regression on the "
            f"frozen {result['model']}, `retrained` are models trained for {result['epochs']} epochs, both in "
            f"{result['folds']} folds (`--retrain` takes the mean of both, in logits).",
            "",
            "Precision of the first suggestions, ordered by confidence, and the mean confidence of the first 200:",
            "",
            "| scores | seed | " + " | ".join(f"first {first}" for first in TOP_N) + " | confidence |",
            "| --- | ---: |" + " ---: |" * (len(TOP_N) + 1),
            *rows,
            "",
            result_io.format_machine(machine, note=", shared with other work"),
            "",
        ]
    )


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="The title of README.md.")
@click.option("--share", type=float, default=0.1, show_default=True, help="Share of the training labels to remove.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="The encoder.")
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True, help="Epochs of a retrained model.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Folds, one model each.")
@click.option("--quick", is_flag=True, help="Measure the quick method only.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1), show_default=True)
def main(**options: Any) -> None:
    """Measure the review of the training labels of DATA after removing some of them."""
    data = read_dataset(options["data"])
    retrain = None if options["quick"] else RetrainConfig(TrainConfig(epochs=options["epochs"]), options["folds"])
    result = {
        **{name: options[name] for name in ("title", "share", "model", "epochs", "folds")},
        "training_texts": len(data.part("train")),
        "machine": result_io.describe_machine(),
        "command": _format_command(options),
        "runs": [],
    }
    for seed in options["seeds"]:
        run = measure_review(data, options["share"], seed, model=options["model"], retrain=retrain)
        result["runs"].append(run)
        click.echo(json.dumps(run))
        result_io.write_result(result, options["output"], render_readme)


def _format_command(options: dict[str, Any]) -> str:
    """Return the command that repeats the measurement."""
    given = {"output": "FOLDER", **{name: options[name] for name in ("title", "share", "model", "epochs", "folds")}}
    path = result_io.portable_path(options["data"])
    command = result_io.format_command("label_noise", [path], given, {"seed": options["seeds"]})
    return f"{command} --quick" if options["quick"] else command


if __name__ == "__main__":
    main()
