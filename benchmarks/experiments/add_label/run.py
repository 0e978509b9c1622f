"""What does a model forget when a label is added to it, and how well does it learn the new one?

`python -m experiments.add_label.run --data DATA.csv --label NAME --output FOLDER` halves the training rows: the first
half knows all labels but the new one, the second half the new one alone. `result.json` and `README.md` are written anew
after every training: what was interrupted goes on where it stood.
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
    "fine-tuned on without the old model's answers",
    "trained on everything",
)


def parts(data: Dataset, label: str, seed: int) -> tuple[Dataset, Dataset]:
    """The data that the old model was made of, and those that know the new label alone; both keep the other splits."""
    training = np.flatnonzero(np.array(data.split) == "train")
    others = np.flatnonzero(np.array(data.split) != "train")
    first, second = np.array_split(np.random.default_rng(seed).permutation(training), 2)
    old = tuple(name for name in data.labels if name != label)
    halves = (data.take(np.sort(np.concatenate([half, others])).tolist()) for half in (first, second))
    return only(next(halves), old), only(next(halves), (label,))


def only(data: Dataset, labels: Sequence[str]) -> Dataset:
    """The data with some of its labels."""
    columns = [data.labels.index(label) for label in labels]
    return replace(data, targets=data.targets[:, columns], labels=tuple(labels))


@contextmanager
def without_answers() -> Iterator[None]:
    """Nothing is said of the old labels in the loss; all else is as with `--add-label`."""

    def forget(*arguments: Any) -> TeacherScores:
        teacher = score_with_teacher(*arguments)
        return replace(teacher, train=np.full_like(teacher.train, np.nan))

    with patch("manylabel_train.training.train.score_with_teacher", forget):
        yield


def measure(data: Dataset, label: str, seed: int, options: dict[str, Any], scratch: Path) -> Iterator[dict[str, Any]]:
    """The four ways for one seed: the test split's figures by the run's own thresholds."""
    old, new = parts(data, label, seed)
    recipe = TrainConfig(seed=seed, epochs=options["epochs"], loss="bce")
    test, before = data.part("test"), scratch / "before"
    more: dict[str, Any] = {"start_from": str(before), "add_labels": [label], "config": recipe}
    yield _figures(BEFORE, seed, before, train(old, before, model=options["model"], config=recipe), test, label)
    yield _figures(ADDED, seed, scratch / "added", train(new, scratch / "added", **more), test, label)
    with without_answers():
        run = train(new, scratch / "naive", **more)
    yield _figures(NAIVE, seed, scratch / "naive", run, test, label)
    run = train(data, scratch / "all", model=options["model"], config=recipe)
    yield _figures(EVERYTHING, seed, scratch / "all", run, test, label)


def _figures(way: str, seed: int, folder: Path, run: TrainingRun, test: Dataset, label: str) -> dict[str, Any]:
    """F1 of every label that the run knows on whole-known texts."""
    model, _ = checkpoint.load_model(str(folder))
    tokenizer = checkpoint.load_tokenizer(str(folder))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, run.max_length, make_long_text(run.max_length))
    found: NDArray[np.float32] = checkpoint.predict_proba(model, reader, test.texts)
    thresholds = np.array(run.thresholds, dtype=np.float32)
    by_label = per_label_metrics(found, only(test, run.labels).targets, run.labels, thresholds)
    scores = {name: figures["f1"] for name, figures in by_label.items()}
    return {
        "way": way,
        "seed": seed,
        "old_macro_f1": float(np.mean([value for name, value in scores.items() if name != label])),
        "new_f1": scores.get(label),
        "f1": scores,
        "old_decisions_kept": run.details["origin"].get("old_decisions_kept"),
    }


def rows(runs: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The table's rows, one a way: means over seeds with the standard deviation."""
    for way in WAYS:
        of_way = [run for run in runs if run["way"] == way]
        if of_way:
            yield [
                way,
                *(
                    result_io.spread([run[key] for run in of_way])
                    for key in ("old_macro_f1", "new_f1", "old_decisions_kept")
                ),
            ]


def markdown(result: dict[str, Any]) -> str:
    """The table with what it was measured on and by."""
    machine, seeds = result["machine"], sorted({run["seed"] for run in result["runs"]})
    head = ["", "old labels, macro-F1", f"'{result['label']}', F1", "old decisions kept on validation"]
    table = [head, ["---"] * len(head), *rows(result["runs"])]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{command(result)}`",
            "",
            f"Test split of {result['texts']['test']:,} texts. Half of the {result['texts']['train']:,} training texts "
            f"know {result['labels'] - 1} labels, the other half '{result['label']}' alone, and so does the validation "
            "split when it is added. The last row is trained on all texts with all labels known. Mean over the seeds "
            f"{', '.join(map(str, seeds))}, and standard deviation; a seed draws the halves too.",
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
            result_io.machine_line(machine),
            "",
        ]
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A CSV file with splits.")
@click.option("--label", required=True, help="The label to add.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A folder for result.json and README.md."
)
@click.option("--title", required=True, help="Heads README.md.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="The encoder.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: the recipe's]")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True)
def main(**options: Any) -> None:
    """Add a label to a model that was trained without it, in two ways, and measure both."""
    data = read_dataset(options["data"])
    result = result_io.begin(options, data, label=options["label"], labels=len(data.labels))
    for seed in options["seeds"]:
        if sum(run["seed"] == seed for run in result["runs"]) == len(WAYS):
            continue
        result["runs"] = [run for run in result["runs"] if run["seed"] != seed]
        with TemporaryDirectory() as scratch:
            for run in measure(data, options["label"], seed, options, Path(scratch)):
                result["runs"].append(run)
                result_io.write(result, options["output"], markdown(result))
                click.echo(f"{run['way']}, seed {seed}: old {run['old_macro_f1']:.4f}, new {run['new_f1']}")
    result_io.write(result, options["output"], markdown(result))


def command(result: dict[str, Any]) -> str:
    """What measures again all that has been measured."""
    options = {"data": result["data"], "label": result["label"], "output": "FOLDER", "title": result["title"]}
    options |= {"epochs": result["epochs"]}
    return result_io.command("add_label", [], options, {"seed": sorted({run["seed"] for run in result["runs"]})})


if __name__ == "__main__":
    main()
