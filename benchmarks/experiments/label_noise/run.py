"""Does `manylabel review-labels` find labels that were removed at random? Precision of its first suggestions.

`python -m experiments.label_noise.run DATA.csv --output FOLDER` removes a share of the labels of the training rows (no
other split is touched), scores every training row by models that never saw it, in the quick way and by training anew,
and counts how many of the first suggestions are labels that were removed. Labels that the data lacked before count as
wrong suggestions, so the figures are lower bounds.
"""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel_bench.hardware import describe_hardware
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.models import DEFAULT_MODEL, checkpoint
from manylabel_train.review.confident_learning import Suspicions, suspicions
from manylabel_train.review.out_of_sample_scores import Retraining, Scores, quick_scores, together, trained_scores
from manylabel_train.training.config import TrainConfig

FIRST = (50, 100, 200, 400)
FOLDS_SEED = 42

Mask = NDArray[np.bool_]


def without_labels(rows: Dataset, share: float, *, seed: int) -> tuple[Dataset, Mask]:
    """The rows with a share of their labels removed, and where these were, shape `(n, n_labels)`."""
    given = np.argwhere(rows.targets == 1)
    taken = given[np.random.default_rng(seed).permutation(len(given))[: int(share * len(given))]]
    removed = np.zeros(rows.targets.shape, dtype=bool)
    removed[tuple(taken.T)] = True
    return replace(rows, targets=np.where(removed, 0, rows.targets).astype(np.float32)), removed


def precision(found: Suspicions, removed: Mask) -> dict[str, float]:
    """Share of the first suggestions of a label that is missing or wrong, which put back what was removed."""
    right = removed[found.rows, found.columns]
    return {str(first): round(float(right[:first].mean()), 4) for first in FIRST}


def scores_of(rows: Dataset, validation: Dataset, *, model: str, retrain: Retraining | None) -> dict[str, Any]:
    """Out-of-sample scores of the rows by way, and the seconds that each way took."""
    source, started = checkpoint.resolve_checkpoint(model), perf_counter()
    max_length = checkpoint.default_max_length(checkpoint.load_config(source))
    scores: dict[str, Scores] = {"quick": quick_scores(source, rows, max_length=max_length, seed=FOLDS_SEED)}
    seconds = {"quick": perf_counter() - started}
    if retrain:
        scores["retrained"] = trained_scores(source, retrain, rows, validation)
        scores["retrained and quick"] = together(scores["quick"], scores["retrained"])
        seconds["retrained"] = perf_counter() - started - seconds["quick"]
    return {"scores": scores, "seconds": seconds}


def measure(data: Dataset, share: float, seed: int, *, model: str, retrain: Retraining | None) -> dict[str, Any]:
    """Remove labels with one seed, and find them again in every way."""
    rows, removed = without_labels(data.part("train"), share, seed=seed)
    found = scores_of(rows, data.part("validation"), model=model, retrain=retrain)
    suspected = {way: suspicions(scores, rows.targets) for way, scores in found["scores"].items()}
    return {
        "seed": seed,
        "removed": int(removed.sum()),
        "blind": round(float(removed.sum() / (rows.targets == 0).sum()), 4),
        "precision": {way: precision(each, removed) for way, each in suspected.items()},
        "confidence": {way: round(float(each.confidence[:200].mean()), 4) for way, each in suspected.items()},
        "seconds": {way: round(value) for way, value in found["seconds"].items()},
    }


def markdown(result: dict[str, Any]) -> str:
    """The table, what it was measured on, and by what."""
    runs, machine = result["runs"], result["machine"]
    rows = [
        f"| {way} | {run['seed']} | "
        + " | ".join(f"{run['precision'][way][str(first)]:.3f}" for first in FIRST)
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
            f"random ({runs[0]['removed']:,} labels). A suggestion is right where it is one of these; what the data "
            "lacked before counts as wrong, so the figures are lower bounds. Picked blindly among the labels not "
            f"given, {runs[0]['blind']:.1%} would be right. `quick` is logistic regressions on {result['model']} "
            f"as it came, `retrained` models trained for {result['epochs']} epochs, in {result['folds']} folds "
            "either way (`--retrain` takes the mean of both, in logits).",
            "",
            "Precision of the first suggestions, most confident first, and the mean confidence of the first 200:",
            "",
            "| scores | seed | " + " | ".join(f"first {first}" for first in FIRST) + " | confidence |",
            "| --- | ---: |" + " ---: |" * (len(FIRST) + 1),
            *rows,
            "",
            result_io.machine_line(machine, note=", shared with other work"),
            "",
        ]
    )


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="Heads README.md.")
@click.option("--share", type=float, default=0.1, show_default=True, help="Of training labels to remove.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="The encoder.")
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True, help="Of a retrained model.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Models to train a seed.")
@click.option("--quick", is_flag=True, help="Measure the quick way alone.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1), show_default=True)
def main(**options: Any) -> None:
    """Measure the review of DATA's training labels after removing some of them."""
    data = read_dataset(options["data"])
    retrain = None if options["quick"] else Retraining(TrainConfig(epochs=options["epochs"]), options["folds"])
    result = {
        **{name: options[name] for name in ("title", "share", "model", "epochs", "folds")},
        "training_texts": len(data.part("train")),
        "machine": describe_hardware() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
        "command": _command(options),
        "runs": [],
    }
    for seed in options["seeds"]:
        run = measure(data, options["share"], seed, model=options["model"], retrain=retrain)
        result["runs"].append(run)
        click.echo(json.dumps(run))
        result_io.write(result, options["output"], markdown(result))


def _command(options: dict[str, Any]) -> str:
    """What measures this again, with data where the Makefile looks for it."""
    words = [result_io.data_path(options["data"]), "--output", "FOLDER", "--title", options["title"]]
    words += [word for name in ("share", "model", "epochs", "folds") for word in (f"--{name}", str(options[name]))]
    words += [word for seed in options["seeds"] for word in ("--seed", str(seed))]
    return shlex.join(["python", "-m", "experiments.label_noise.run", *words, *["--quick"] * options["quick"]])


if __name__ == "__main__":
    main()
