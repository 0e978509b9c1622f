"""Which loss is best: where a text has one label noted of those it has, and where labels are skewed?

`python -m manylabel_bench.losses SETTING --data DATA.csv --output FOLDER` trains a model for every loss and seed, and
writes `result.json` and `README.md` anew after every run: what was interrupted goes on where it stood.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from manylabel_bench.seeds import SPREAD, Comparison
from manylabel_export.dataset import Dataset
from manylabel_export.training import Recipe, train
from manylabel_export.training.losses import KNOWN_ONLY, LOSSES

CEILING = "bce, all labels known"
SINGLE_POSITIVE = "single-positive"
SETTINGS = {
    SINGLE_POSITIVE: (CEILING, *(name for name in LOSSES if name not in KNOWN_ONLY)),
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


def run_once(data: Dataset, loss: str, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """One training run: its figures on the test split, at 0.5 and with tuned thresholds."""
    complete = loss == CEILING
    given = one_label_each(data, seed) if options["setting"] == SINGLE_POSITIVE and not complete else data
    recipe = Recipe(loss="bce" if complete else loss, seed=seed, epochs=options["epochs"])  # type: ignore[arg-type]  # a loss
    with TemporaryDirectory() as scratch:
        run = train(given, Path(scratch) / "run", model=options["model"], recipe=recipe)
    figures = run.metrics["test"]
    return {"tuned": figures["tuned"], "at_half": figures["at_half"], "recipe": run.details["recipe"]}


COMPARISON = Comparison(
    module="losses",
    way="loss",
    ways="losses",
    settings=SETTINGS,
    run=run_once,
    columns={
        **{name: ("tuned", name) for name in ("macro_f1", "micro_f1", "macro_average_precision")},
        **{f"{name} at 0.5": ("at_half", name) for name in ("macro_f1", "micro_f1")},
    },
    note=lambda texts: (
        f"Test split of {texts['test']:,} texts, trained on {texts['train']:,}; thresholds tuned on the validation "
        f"split. {SPREAD}, and which label of a text stays where one does."
    ),
)
main = COMPARISON.command("Train and measure every loss of SETTING.")

if __name__ == "__main__":
    main()
