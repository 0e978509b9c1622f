"""Which way of training is best: windows or the beginning of long texts, and what the head reads?

`python -m manylabel_bench.recipes SETTING --data DATA.csv --output FOLDER` trains a model for every way and seed, and
writes `result.json` and `README.md` anew after every run: what was interrupted goes on where it stood. The table gives
figures of the validation split, by which one chooses, beside those of the test split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from manylabel_bench import ledger
from manylabel_bench.losses import cut
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
            values = [ledger.spread([run[split][at][name] for run in of_way]) for _, split, at, name in COLUMNS]
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
            ledger.machine_line(machine),
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
    result = ledger.begin(
        options,
        data,
        setting=options["setting"],
        cut=options["training_rows"],
        ways=list(SETTINGS[options["setting"]]),
    )
    for seed in options["seeds"]:
        for way in options["ways"] or SETTINGS[options["setting"]]:
            if (way, seed) in {(run["way"], run["seed"]) for run in result["runs"]}:
                continue
            recipe = replace(Recipe(seed=seed, epochs=options["epochs"]), **SETTINGS[options["setting"]][way])
            run = {"way": way, **run_once(data, recipe, options["model"])}
            result["runs"].append(run)
            ledger.write(result, options["output"], markdown(result))
            click.echo(f"{way}, seed {seed}: validation macro-F1 {run['validation']['tuned']['macro_f1']:.4f}")
    ledger.write(result, options["output"], markdown(result))


def command(result: dict[str, Any]) -> str:
    """What measures again all that has been measured."""
    options = {"data": result["data"], "output": "FOLDER", "title": result["title"], "cut": result["cut"]}
    options |= {"epochs": result["epochs"]}
    measured = [way for way in result["ways"] if way in {run["way"] for run in result["runs"]}]
    several = {"seed": sorted({run["seed"] for run in result["runs"]})}
    several |= {"way": measured} if measured != result["ways"] else {}
    return ledger.command("recipes", [result["setting"]], options, several)


def _missing(result: dict[str, Any]) -> Iterator[str]:
    """What there was no time for, said plainly."""
    seeds = {way: [run["seed"] for run in result["runs"] if run["way"] == way] for way in result["ways"]}
    none = [way for way, measured in seeds.items() if not measured]
    if none:
        yield f"**Not measured yet: {'; '.join(none)}.**"
    if any(0 < len(measured) < WANTED_SEEDS for measured in seeds.values()):
        yield f"**Fewer than {WANTED_SEEDS} seeds: differences of a point may be chance.**"


if __name__ == "__main__":
    main()
