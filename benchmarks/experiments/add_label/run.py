"""What does a model forget when a label is added to it, and how well does it learn the new one?

`python -m experiments.add_label.run --data DATA.csv --label NAME --output FOLDER` splits the training rows in halves:
in the first all labels but the new one are known, in the second only the new one. `result.json` and `README.md` are
written after every training; an interrupted measurement resumes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.data.training_run import TrainingRun
from manylabel_train.evaluation.metrics import per_label_metrics
from manylabel_train.models import DEFAULT_MODEL, checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.training.add_labels import TeacherScores, score_with_teacher
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

BEFORE, ADDED, NAIVE, EVERYTHING = WAYS = (
    "before",
    "--add-label",
    "fine-tuned without distillation from the old model",
    "trained on everything",
)


def split_labels(data: Dataset, label: str, seed: int) -> tuple[Dataset, Dataset]:
    """Return the data of the old model, and data in which only the new label is known; both keep the other splits."""
    training = np.flatnonzero(np.array(data.split) == "train")
    others = np.flatnonzero(np.array(data.split) != "train")
    first, second = np.array_split(np.random.default_rng(seed).permutation(training), 2)
    old = tuple(name for name in data.labels if name != label)
    halves = (data.take(np.sort(np.concatenate([half, others])).tolist()) for half in (first, second))
    return select_labels(next(halves), old), select_labels(next(halves), (label,))


def select_labels(data: Dataset, labels: Sequence[str]) -> Dataset:
    """Return the data with some of its labels."""
    columns = [data.labels.index(label) for label in labels]
    return replace(data, targets=data.targets[:, columns], labels=tuple(labels))


@contextmanager
def without_distillation() -> Iterator[None]:
    """Leave the old labels out of the loss; everything else is as with `--add-label`."""

    def forget(*arguments: Any) -> TeacherScores:
        teacher = score_with_teacher(*arguments)
        return replace(teacher, train=np.full_like(teacher.train, np.nan))

    with patch("manylabel_train.training.train.score_with_teacher", forget):
        yield


def compare_ways(
    data: Dataset, label: str, seed: int, options: dict[str, Any], scratch: Path
) -> Iterator[dict[str, Any]]:
    """Train in four ways with one seed; yield the figures on the test split at each run's own thresholds."""
    old, new = split_labels(data, label, seed)
    recipe = TrainConfig(seed=seed, epochs=options["epochs"], loss="bce")
    test, before = data.part("test"), scratch / "before"
    more: dict[str, Any] = {"start_from": str(before), "add_labels": [label], "config": recipe}
    yield _figures(BEFORE, seed, before, train(old, before, model=options["model"], config=recipe), test, label)
    yield _figures(ADDED, seed, scratch / "added", train(new, scratch / "added", **more), test, label)
    with without_distillation():
        run = train(new, scratch / "naive", **more)
    yield _figures(NAIVE, seed, scratch / "naive", run, test, label)
    run = train(data, scratch / "all", model=options["model"], config=recipe)
    yield _figures(EVERYTHING, seed, scratch / "all", run, test, label)


def _figures(way: str, seed: int, folder: Path, run: TrainingRun, test: Dataset, label: str) -> dict[str, Any]:
    """Compute F1 of every label of the run on the test split, where all labels are known."""
    model, _ = checkpoint.load_model(str(folder))
    tokenizer = checkpoint.load_tokenizer(str(folder))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, run.max_length, make_long_text(run.max_length))
    probabilities: NDArray[np.float32] = checkpoint.predict_proba(model, reader, test.texts)
    thresholds = np.array(run.thresholds, dtype=np.float32)
    by_label = per_label_metrics(probabilities, select_labels(test, run.labels).targets, run.labels, thresholds)
    scores = {name: figures["f1"] for name, figures in by_label.items()}
    return {
        "way": way,
        "seed": seed,
        "old_macro_f1": float(np.mean([value for name, value in scores.items() if name != label])),
        "new_f1": scores.get(label),
        "f1": scores,
        "old_decisions_kept": run.details["origin"].get("old_decisions_kept"),
    }


def table_rows(runs: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield one row per way: means over seeds with the standard deviation."""
    for way in WAYS:
        of_way = [run for run in runs if run["way"] == way]
        if of_way:
            yield [
                way,
                *(
                    result_io.format_mean_and_sd([run[key] for run in of_way])
                    for key in ("old_macro_f1", "new_f1", "old_decisions_kept")
                ),
            ]


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    machine, seeds = result["machine"], sorted({run["seed"] for run in result["runs"]})
    head = ["", "old labels, macro-F1", f"'{result['label']}', F1", "old decisions kept on validation"]
    table = [head, ["---"] * len(head), *table_rows(result["runs"])]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{format_command(result)}`",
            "",
            f"Test split of {result['texts']['test']:,} texts. In half of the {result['texts']['train']:,} training "
            f"texts {result['labels'] - 1} labels are known, in the other half only '{result['label']}', as in the "
            "validation split when the label is added. The last row is trained on all texts with all labels known. "
            f"Means over the seeds {', '.join(map(str, seeds))}, with the standard deviation; a seed also determines "
            "the halves.",
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
            result_io.format_machine(machine),
            "",
        ]
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A CSV file with splits.")
@click.option("--label", required=True, help="The label to add.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A folder for result.json and README.md."
)
@click.option("--title", required=True, help="The title of README.md.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="The encoder.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs.  [default: as in training]")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True)
def main(**options: Any) -> None:
    """Add a label to a model that was trained without it, in two ways, and compare both with training on everything."""
    data = read_dataset(options["data"])
    result = result_io.start_result(options, data, label=options["label"], labels=len(data.labels))
    for seed in options["seeds"]:
        if sum(run["seed"] == seed for run in result["runs"]) == len(WAYS):
            continue
        result["runs"] = [run for run in result["runs"] if run["seed"] != seed]
        with TemporaryDirectory() as scratch:
            for run in compare_ways(data, options["label"], seed, options, Path(scratch)):
                result["runs"].append(run)
                result_io.write_result(result, options["output"], render_readme)
                click.echo(f"{run['way']}, seed {seed}: old {run['old_macro_f1']:.4f}, new {run['new_f1']}")
    result_io.write_result(result, options["output"], render_readme)


def format_command(result: dict[str, Any]) -> str:
    """Return the command that repeats all runs of the result."""
    options = {"data": result["data"], "label": result["label"], "output": "FOLDER", "title": result["title"]}
    options |= {"epochs": result["epochs"]}
    return result_io.format_command("add_label", [], options, {"seed": sorted({run["seed"] for run in result["runs"]})})


if __name__ == "__main__":
    main()
