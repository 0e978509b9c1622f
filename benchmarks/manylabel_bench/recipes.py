"""Which way of training is best: windows or the beginning of long texts, and what the head reads?

`python -m manylabel_bench.recipes SETTING --data DATA.csv --output FOLDER` trains a model for every way and seed, and
writes `result.json` and `README.md` anew after every run: what was interrupted goes on where it stood. The table gives
figures of the validation split, by which one chooses, beside those of the test split.
"""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from manylabel_bench.losses import cut
from manylabel_bench.machine import describe
from manylabel_export.checkpoint import DEFAULT_MODEL
from manylabel_export.dataset import Dataset
from manylabel_export.reading import read
from manylabel_export.training import Recipe, train

WANTED_SEEDS = 3
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "long-texts": {
        f"{what}, {length} tokens": {"long_text": policy, "max_length": length}
        for policy, what in (("window", "windows"), ("truncate", "beginning"))
        for length in (512, 256)
    },
    "pooling": {name: {"pooling": name} for name in ("own", "first", "mean")},
}
COLUMNS = (
    ("validation macro_f1", "validation", "tuned", "macro_f1"),
    ("test macro_f1", "test", "tuned", "macro_f1"),
    ("test micro_f1", "test", "tuned", "micro_f1"),
    ("test macro_average_precision", "test", "tuned", "macro_average_precision"),
    ("test macro_f1 at 0.5", "test", "at_half", "macro_f1"),
)


def run_once(data: Dataset, recipe: Recipe, model: str) -> dict[str, Any]:
    """One training run: its figures on the validation and the test split, and its recipe as it was completed."""
    with TemporaryDirectory() as scratch:
        run = train(data, Path(scratch) / "run", model=model, recipe=recipe)
    figures = {split: {at: run.metrics[split][at] for at in ("tuned", "at_half")} for split in ("validation", "test")}
    return figures | {"seed": recipe.seed, "recipe": run.details["recipe"]}


def rows(runs: Sequence[dict[str, Any]], ways: Sequence[str]) -> Iterator[list[str]]:
    """The table's rows, one a way of training: means over seeds with the standard deviation."""
    for way in ways:
        of_way = [run for run in runs if run["way"] == way]
        if of_way:
            values = [_spread([run[split][at][name] for run in of_way]) for _, split, at, name in COLUMNS]
            yield [way, *values, ", ".join(str(run["seed"]) for run in of_way)]


def markdown(result: dict[str, Any]) -> str:
    """The table with what it was measured on and by."""
    machine, texts = result["machine"], result["texts"]
    head = ["", *(name for name, *_ in COLUMNS), "seeds"]
    table = [head, ["---"] * len(head), *rows(result["runs"], result["ways"])]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{command(result)}`",
            "",
            f"Trained on {texts['train']:,} texts; thresholds tuned on the validation split of "
            f"{texts['validation']:,}, measured there and on the test split of {texts['test']:,}. Mean over seeds, and "
            "standard deviation where there are several. A seed draws the order of the texts, dropout, the fresh head.",
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
@click.option("--way", "ways", multiple=True, help="Some ways alone.  [default: all of the setting]")
def main(**options: Any) -> None:
    """Train and measure every way of SETTING."""
    data = read(options["data"])
    data = cut(data, options["training_rows"]) if options["training_rows"] else data
    result = _begun(options, data)
    for seed in options["seeds"]:
        for way in options["ways"] or SETTINGS[options["setting"]]:
            if (way, seed) in {(run["way"], run["seed"]) for run in result["runs"]}:
                continue
            recipe = replace(Recipe(seed=seed, epochs=options["epochs"]), **SETTINGS[options["setting"]][way])
            run = {"way": way, **run_once(data, recipe, options["model"])}
            result["runs"].append(run)
            _write(result, options["output"])
            click.echo(f"{way}, seed {seed}: validation macro-F1 {run['validation']['tuned']['macro_f1']:.4f}")
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
        "ways": list(SETTINGS[options["setting"]]),
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
    measured = [way for way in result["ways"] if way in {run["way"] for run in result["runs"]}]
    words += [word for way in measured for word in ("--way", way)] if measured != result["ways"] else []
    return shlex.join(["python", "-m", "manylabel_bench.recipes", result["setting"], *words])


def _missing(result: dict[str, Any]) -> Iterator[str]:
    """What there was no time for, said plainly."""
    seeds = {way: [run["seed"] for run in result["runs"] if run["way"] == way] for way in result["ways"]}
    none = [way for way, measured in seeds.items() if not measured]
    if none:
        yield f"**Not measured yet: {'; '.join(none)}.**"
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
