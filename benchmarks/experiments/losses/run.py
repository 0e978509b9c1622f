"""Which loss is best: where a text has one label noted of those it has, and where labels are skewed?

`python -m experiments.losses.run SETTING --data DATA.csv --output FOLDER` trains a model for every loss and seed, and
writes `result.json` and `README.md` anew after every run: what was interrupted goes on where it stood.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common.multi_seed import SPREAD, Comparison
from manylabel_train.data.dataset import Dataset
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.losses import KNOWN_ONLY, LOSSES

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


def given(data: Dataset, loss: str, seed: int, options: Mapping[str, Any]) -> tuple[Dataset, TrainConfig]:
    """What a loss is trained on: all labels for the ceiling, else one of a text's where that is the setting."""
    if loss == CEILING:
        return data, TrainConfig(loss="bce", seed=seed, epochs=options["epochs"])
    recipe = TrainConfig(loss=loss, seed=seed, epochs=options["epochs"])  # type: ignore[arg-type]  # SETTINGS has losses alone
    return one_label_each(data, seed) if options["setting"] == SINGLE_POSITIVE else data, recipe


def figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the test split, at 0.5 and with tuned thresholds."""
    return {at: metrics["test"][at] for at in ("tuned", "at_half")}


COMPARISON = Comparison(
    module="losses",
    way="loss",
    ways="losses",
    settings=SETTINGS,
    given=given,
    figures=figures,
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
