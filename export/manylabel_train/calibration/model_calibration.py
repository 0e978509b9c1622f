"""What a model's answers are made to be: calibrated probabilities, by the validation texts alone.

The one place where it happens. The scale and shift are in the model's last layer from here on, so that the checkpoint,
the graphs that are traced from it, and the thresholds that are chosen on its scores all belong together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.calibration.fit import Calibration, Method, fit_calibration, held_out
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.ece import BINS, calibration_errors
from manylabel_train.models.checkpoint import predict_proba
from manylabel_train.training.model_init import output_layer

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Calibrated:
    """A calibrated model's answers.

    Attributes:
        scores: By split, each of shape `(n_texts, n_labels)`.
        details: Method, scales and shifts, and calibration error by split, as a run and a bundle keep them.
    """

    scores: Mapping[str, Scores]
    details: Mapping[str, Any]


def calibrate(model: PreTrainedModel, reader: Tokenizer, parts: Mapping[str, Dataset], method: Method) -> Calibrated:
    """Calibrate a model in place on the validation split, and score every split with what it has become.

    Args:
        model: The classifier.
        reader: Its tokenizer, as the runtime has it.
        parts: Splits that were not trained on, `"validation"` among them.
        method: How.
    """
    validation = parts["validation"]
    raw = predict_proba(model, reader, validation.texts)
    calibration = fit_calibration(raw, validation.targets, method)
    scores = {"validation": raw}
    if calibration.changed.any():
        calibration.fold(output_layer(model))
        scores["validation"] = predict_proba(model, reader, validation.texts)  # what is measured is what is saved
    scores |= {name: predict_proba(model, reader, part.texts) for name, part in parts.items() if name not in scores}
    errors = {name: _errors(calibration, scores[name], part) for name, part in parts.items() if name != "validation"}
    # on the texts that calibration is fitted on, each text by a calibration that was fitted without it
    after = raw if method == "none" else held_out(raw, validation.targets, method)
    errors["validation"] = _before_and_after(raw, after, validation)
    details = {"method": method, "labels": calibration.as_dict(validation.labels), "bins": BINS, "error": errors}
    return Calibrated(scores, details)


def _errors(calibration: Calibration, scores: Scores, rows: Dataset) -> dict[str, Any]:
    return _before_and_after(calibration.undo(scores), scores, rows)


def _before_and_after(before: Scores, after: Scores, rows: Dataset) -> dict[str, Any]:
    return {
        "before": calibration_errors(before, rows.targets, rows.labels),
        "after": calibration_errors(after, rows.targets, rows.labels),
    }
