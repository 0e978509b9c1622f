"""Which loss is best: where a text has one label noted of those it has, and where labels are skewed?

`python -m manylabel_bench.losses SETTING --data DATA.csv --output FOLDER` trains a model for every loss and seed, and
writes `result.json` and `README.md` anew after every run: what was interrupted goes on where it stood.
"""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from manylabel_bench.machine import describe
from manylabel_export.checkpoint import DEFAULT_MODEL
from manylabel_export.dataset import Dataset
from manylabel_export.reading import read
from manylabel_export.training import Recipe, train
from manylabel_export.training.losses import KNOWN_ONLY, LOSSES

SHOWN = ("macro_f1", "micro_f1", "macro_average_precision")
CEILING = "bce, all labels known"
WANTED_SEEDS = 3
SETTINGS = {
    "single-positive": (CEILING, *(name for name in LOSSES if name not in KNOWN_ONLY)),
    "imbalance": KNOWN_ONLY,
}


def one_label_each(data: Dataset, seed: int) -> Dataset:
    """The training rows with one of their labels at random, and nothing said of the others. The rest stays whole."""
    draw = np.random.default_rng(seed)
    targets = data.targets.copy()
    for row in np.flatnonzero(np.array(data.split) == "train"):
        present = np.flatnonzero(data.targets[row] == 1)
        targets[row] = np.nan
        if len(present):
            targets[row, draw.choice(present)] = 1
    return Dataset(data.texts, targets, data.labels, data.split)


def cut(data: Dataset, rows: int) -> Dataset:
    """The same `rows` of the training rows whatever the seed of the run, and all others."""
    training = np.flatnonzero(np.array(data.split) == "train")
    kept = np.random.default_rng(0).permutation(training)[:rows]
    others = np.flatnonzero(np.array(data.split) != "train")
    return data.take(np.sort(np.concatenate([kept, others])).tolist())


def run_once(data: Dataset, loss: str, seed: int, *, single: bool, model: str, epochs: int | None) -> dict[str, Any]:
    """One training run: its figures on the test split, at 0.5 and with tuned thresholds."""
    complete = loss == CEILING
    given = one_label_each(data, seed) if single and not complete else data
    recipe = Recipe(loss="bce" if complete else loss, seed=seed, epochs=epochs)  # type: ignore[arg-type]  # a loss
    with TemporaryDirectory() as scratch:
        run = train(given, Path(scratch) / "run", model=model, recipe=recipe)
    figures = run.metrics["test"]
    return {
        "loss": loss,
        "seed": seed,
        "tuned": figures["tuned"],
        "at_half": figures["at_half"],
        "recipe": run.details["recipe"],
    }


def rows(runs: Sequence[dict[str, Any]], losses: Sequence[str]) -> Iterator[list[str]]:
    """The table's rows, one a loss: means over seeds with the standard deviation, on the test split."""
    for loss in losses:
        of_loss = [run for run in runs if run["loss"] == loss]
        if of_loss:
            tuned = [_spread([run["tuned"][name] for run in of_loss]) for name in SHOWN]
            half = [_spread([run["at_half"][name] for run in of_loss]) for name in SHOWN[:2]]
            yield [loss, *tuned, *half, ", ".join(str(run["seed"]) for run in of_loss)]


def markdown(result: dict[str, Any]) -> str:
    """The table with what it was measured on and by."""
    machine = result["machine"]
    head = ["loss", *SHOWN, *(f"{name} at 0.5" for name in SHOWN[:2]), "seeds"]
    table = [head, ["---"] * len(head), *rows(result["runs"], result["losses"])]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{command(result)}`",
            "",
            f"Test split of {result['texts']['test']:,} texts, trained on {result['texts']['train']:,}; thresholds "
            "tuned on the validation split. Mean over seeds, and standard deviation where there are several. A seed "
            "draws the order of the texts, dropout, the fresh head, and which label of a text stays where one does.",
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
            *(line for said in _missing(result) for line in (said, "")),
            f"Machine: {machine['cpu']} ({', '.join(machine['flags'])}), "
            f"Python {machine['python']}, "
            + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
            + ".",
            "",
        ]
    )


@click.command()
@click.argument("setting", type=click.Choice(list(SETTINGS)))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A CSV file with splits.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A folder for result.json and README.md."
)
@click.option("--title", required=True, help="Heads README.md.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="The encoder.")
@click.option("--cut", "training_rows", type=click.IntRange(min=1), help="Take so many of the training rows.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: the recipe's]")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True)
@click.option("--loss", "losses", multiple=True, help="Some losses alone.  [default: all of the setting]")
def main(**options: Any) -> None:
    """Train and measure every loss of SETTING."""
    data = read(options["data"])
    data = cut(data, options["training_rows"]) if options["training_rows"] else data
    result = _begun(options, data)
    for seed in options["seeds"]:
        for loss in options["losses"] or SETTINGS[options["setting"]]:
            if (loss, seed) in {(run["loss"], run["seed"]) for run in result["runs"]}:
                continue
            single = options["setting"] == "single-positive"
            run = run_once(data, loss, seed, single=single, model=options["model"], epochs=options["epochs"])
            result["runs"].append(run)
            _write(result, options["output"])
            click.echo(f"{loss}, seed {seed}: macro-F1 {run['tuned']['macro_f1']:.4f}")
    _write(result, options["output"])


def _begun(options: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """What an interrupted measurement has, or nothing yet."""
    path = options["output"] / "result.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    return {
        "title": options["title"],
        "setting": options["setting"],
        "data": f"../shared/data/{options['data'].parent.name}/{options['data'].name}",
        "cut": options["training_rows"],
        "epochs": options["epochs"],
        "losses": list(SETTINGS[options["setting"]]),
        "texts": {name: len(data.part(name)) for name in ("train", "validation", "test")},
        "machine": describe() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
        "runs": runs,
    }


def command(result: dict[str, Any]) -> str:
    """What measures again all that has been measured, with data where the Makefile looks for it."""
    options = {"data": result["data"], "output": "FOLDER", "title": result["title"], "cut": result["cut"]}
    options |= {"epochs": result["epochs"]}
    words = [word for name, value in options.items() if value for word in (f"--{name}", str(value))]
    words += [word for seed in sorted({run["seed"] for run in result["runs"]}) for word in ("--seed", str(seed))]
    measured = [loss for loss in result["losses"] if loss in {run["loss"] for run in result["runs"]}]
    words += [word for loss in measured for word in ("--loss", loss)] if measured != result["losses"] else []
    return shlex.join(["python", "-m", "manylabel_bench.losses", result["setting"], *words])


def _missing(result: dict[str, Any]) -> Iterator[str]:
    """What there was no time for, said plainly."""
    seeds = {loss: [run["seed"] for run in result["runs"] if run["loss"] == loss] for loss in result["losses"]}
    none = [loss for loss, measured in seeds.items() if not measured]
    if none:
        yield f"**Not measured yet: {', '.join(none)}.**"
    if any(0 < len(measured) < WANTED_SEEDS for measured in seeds.values()):
        yield f"**Fewer than {WANTED_SEEDS} seeds: differences of a point may be chance.**"


def _write(result: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "result.json.new"
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / "result.json")
    (folder / "README.md").write_text(markdown(result), encoding="utf-8")


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
