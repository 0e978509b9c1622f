"""Fine-tuning of multi-label classifiers: data, training, thresholds, calibration, label review and reports.

Subpackages, lowest first; each imports only those above it in this list:

- `thresholds`, `models`, `evaluation`: decision thresholds, Hugging Face checkpoints, metrics
- `data`: labelled texts, splits, near-duplicates, and the manifest of a run
- `calibration`, `reporting`: calibrated probabilities, and a run's report
- `training`: `train` and `TrainConfig`
- `review`: labels that are likely missing or wrong
- `cli`: the commands `train`, `review-labels` and `report`

The names below are the public surface. They are loaded on first use, so that importing this package imports no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manylabel_train.data.dataset import Dataset, read_dataset
    from manylabel_train.data.training_run import TrainingRun, read_run
    from manylabel_train.review.review import review_labels
    from manylabel_train.thresholds.objectives import Objective, Objectives
    from manylabel_train.training.config import TrainConfig
    from manylabel_train.training.hyperparameter_search import SearchConfig
    from manylabel_train.training.train import train

_MODULES = {
    "Dataset": "data.dataset",
    "Objective": "thresholds.objectives",
    "Objectives": "thresholds.objectives",
    "SearchConfig": "training.hyperparameter_search",
    "TrainConfig": "training.config",
    "TrainingRun": "data.training_run",
    "read_dataset": "data.dataset",
    "read_run": "data.training_run",
    "review_labels": "review.review",
    "train": "training.train",
}

__all__ = [
    "Dataset",
    "Objective",
    "Objectives",
    "SearchConfig",
    "TrainConfig",
    "TrainingRun",
    "read_dataset",
    "read_run",
    "review_labels",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
