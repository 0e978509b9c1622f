"""Which way of training is best: windows of long texts or only their beginning, and which pooling?

`python -m experiments.train_recipes.run SETTING --data DATA.csv --output FOLDER` trains a model for every way and seed,
and writes `result.json` and `README.md` after every run; an interrupted measurement resumes. The table has the figures
of the validation split, for choosing, beside those of the test split.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from experiments.common.multi_seed import SPREAD_NOTE, Comparison
from manylabel_train.data.dataset import Dataset
from manylabel_train.training.config import TrainConfig

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "long-texts": {
        f"{what}, {length} tokens": {"long_text": policy, "max_length": length}
        for policy, what in (("window", "windows"), ("truncate", "beginning"))
        for length in (512, 256)
    },
    "pooling": {name: {"pooling": name} for name in ("own", "first", "mean")},
}


def prepare(data: Dataset, way: str, seed: int, options: Mapping[str, Any]) -> tuple[Dataset, TrainConfig]:
    """Return all data, and the configuration of a way."""
    return data, replace(TrainConfig(seed=seed, epochs=options["epochs"]), **SETTINGS[options["setting"]][way])


def select_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the validation split, for choosing, and of the test split."""
    return {split: {at: metrics[split][at] for at in ("tuned", "at_half")} for split in ("validation", "test")}


COMPARISON = Comparison(
    module="train_recipes",
    way="way",
    ways="ways",
    settings=SETTINGS,
    prepare=prepare,
    select_figures=select_figures,
    columns={
        "validation macro_f1": ("validation", "tuned", "macro_f1"),
        "test macro_f1": ("test", "tuned", "macro_f1"),
        "test micro_f1": ("test", "tuned", "micro_f1"),
        "test macro_average_precision": ("test", "tuned", "macro_average_precision"),
        "test macro_f1 at 0.5": ("test", "at_half", "macro_f1"),
    },
    note=lambda texts: (
        f"Trained on {texts['train']:,} texts; thresholds tuned on the validation split of {texts['validation']:,}, "
        f"measured there and on the test split of {texts['test']:,}. {SPREAD_NOTE}."
    ),
)
main = COMPARISON.build_command("Train and measure every way of SETTING.")

if __name__ == "__main__":
    main()
