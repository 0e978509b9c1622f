"""Which loss is best: where a text has one label noted of those it has, and where labels are skewed?

`python -m manylabel_bench.losses SETTING --data DATA.csv --output FOLDER` trains a model for every loss and seed, and
writes `result.json` and `README.md` anew after every run: what was interrupted goes on where it stood.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from manylabel_bench import ledger
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
            tuned = [ledger.spread([run["tuned"][name] for run in of_loss]) for name in SHOWN]
            half = [ledger.spread([run["at_half"][name] for run in of_loss]) for name in SHOWN[:2]]
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
@click.option("--loss", "losses", multiple=True, help="Some losses alone.  [default: all of the setting]")
def main(**options: Any) -> None:
    """Train and measure every loss of SETTING."""
    data = read(options["data"])
    data = cut(data, options["training_rows"]) if options["training_rows"] else data
    result = ledger.begin(
        options,
        data,
        setting=options["setting"],
        cut=options["training_rows"],
        losses=list(SETTINGS[options["setting"]]),
    )
    for seed in options["seeds"]:
        for loss in options["losses"] or SETTINGS[options["setting"]]:
            if (loss, seed) in {(run["loss"], run["seed"]) for run in result["runs"]}:
                continue
            single = options["setting"] == "single-positive"
            run = run_once(data, loss, seed, single=single, model=options["model"], epochs=options["epochs"])
            result["runs"].append(run)
            ledger.write(result, options["output"], markdown(result))
            click.echo(f"{loss}, seed {seed}: macro-F1 {run['tuned']['macro_f1']:.4f}")
    ledger.write(result, options["output"], markdown(result))


def command(result: dict[str, Any]) -> str:
    """What measures again all that has been measured."""
    options = {"data": result["data"], "output": "FOLDER", "title": result["title"], "cut": result["cut"]}
    options |= {"epochs": result["epochs"]}
    measured = [loss for loss in result["losses"] if loss in {run["loss"] for run in result["runs"]}]
    several = {"seed": sorted({run["seed"] for run in result["runs"]})}
    several |= {"loss": measured} if measured != result["losses"] else {}
    return ledger.command("losses", [result["setting"]], options, several)


def _missing(result: dict[str, Any]) -> Iterator[str]:
    """What there was no time for, said plainly."""
    seeds = {loss: [run["seed"] for run in result["runs"] if run["loss"] == loss] for loss in result["losses"]}
    none = [loss for loss, measured in seeds.items() if not measured]
    if none:
        yield f"**Not measured yet: {', '.join(none)}.**"
    if any(0 < len(measured) < WANTED_SEEDS for measured in seeds.values()):
        yield f"**Fewer than {WANTED_SEEDS} seeds: differences of a point may be chance.**"


if __name__ == "__main__":
    main()
