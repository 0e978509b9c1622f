"""Which loss is best when only one label per text is known, and which when labels are imbalanced?

`python -m experiments.losses.run SETTING --data DATA.csv --output FOLDER` trains a model for every loss and seed, and
writes `result.json` and `README.md` after every run; an interrupted measurement resumes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common.multi_seed import SPREAD_NOTE, Comparison
from manylabel_train.data.dataset import Dataset
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.losses import KNOWN_ONLY, LOSSES

CEILING = "bce, all labels known"
SINGLE_POSITIVE = "single-positive"
SETTINGS = {
    SINGLE_POSITIVE: (CEILING, *(name for name in LOSSES if name not in KNOWN_ONLY)),
    "imbalance": KNOWN_ONLY,
}


def keep_one_label(data: Dataset, seed: int) -> Dataset:
    """Keep one random label of each training row; its other labels become unknown, and other splits are unchanged."""
    draw = np.random.default_rng(seed)
    targets = data.targets.copy()
    for row in np.flatnonzero(np.array(data.split) == "train"):
        present = np.flatnonzero(data.targets[row] == 1)
        targets[row] = np.nan
        if len(present):
            targets[row, draw.choice(present)] = 1
    return Dataset(data.texts, targets, data.labels, data.split)


def prepare(data: Dataset, loss: str, seed: int, options: Mapping[str, Any]) -> tuple[Dataset, TrainConfig]:
    """Return the data and configuration of a loss: all labels for the upper bound, otherwise as the setting says."""
    if loss == CEILING:
        return data, TrainConfig(loss="bce", seed=seed, epochs=options["epochs"])
    recipe = TrainConfig(loss=loss, seed=seed, epochs=options["epochs"])  # type: ignore[arg-type]  # SETTINGS has losses alone
    return keep_one_label(data, seed) if options["setting"] == SINGLE_POSITIVE else data, recipe


def select_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the test split, at 0.5 and with tuned thresholds."""
    return {at: metrics["test"][at] for at in ("tuned", "at_half")}


COMPARISON = Comparison(
    module="losses",
    way="loss",
    ways="losses",
    settings=SETTINGS,
    prepare=prepare,
    select_figures=select_figures,
    columns={
        **{name: ("tuned", name) for name in ("macro_f1", "micro_f1", "macro_average_precision")},
        **{f"{name} at 0.5": ("at_half", name) for name in ("macro_f1", "micro_f1")},
    },
    note=lambda texts: (
        f"Test split of {texts['test']:,} texts, trained on {texts['train']:,}; thresholds tuned on the validation "
        f"split. {SPREAD_NOTE}, and which label of a text is kept where one is."
    ),
)
main = COMPARISON.build_command("Train and measure every loss of SETTING.")

if __name__ == "__main__":
    main()
