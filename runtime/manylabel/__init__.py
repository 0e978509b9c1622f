"""Every label that applies to a text, from ONNX Runtime, without PyTorch.

`Classifier.load(bundle)` answers; `manylabel.errors` has every error as a tree.
"""

import importlib
import typing

from manylabel.errors import (
    BudgetExceeded,
    BundleError,
    BundleTooNew,
    CannotWrite,
    CheckpointError,
    DataError,
    DeviceUnavailable,
    ExportError,
    ForkedProcess,
    HubError,
    InputError,
    Interrupted,
    InvalidText,
    JobChanged,
    LabelMismatch,
    ManylabelError,
    MissingDependency,
    NonFiniteScore,
    OutOfMemory,
    OutputExists,
    ParityError,
    SignatureInvalid,
    TextTooLong,
    UnknownLabel,
    WorkerDied,
)

if typing.TYPE_CHECKING:
    from manylabel.bundle.bundle import Bundle
    from manylabel.classifier import Classifier
    from manylabel.inference.predictions import Prediction

__version__ = "0.1.0"

__all__ = [
    "BudgetExceeded",
    "Bundle",
    "BundleError",
    "BundleTooNew",
    "CannotWrite",
    "CheckpointError",
    "Classifier",
    "DataError",
    "DeviceUnavailable",
    "ExportError",
    "ForkedProcess",
    "HubError",
    "InputError",
    "Interrupted",
    "InvalidText",
    "JobChanged",
    "LabelMismatch",
    "ManylabelError",
    "MissingDependency",
    "NonFiniteScore",
    "OutOfMemory",
    "OutputExists",
    "ParityError",
    "Prediction",
    "SignatureInvalid",
    "TextTooLong",
    "UnknownLabel",
    "WorkerDied",
]

_HOMES = {
    "Bundle": "manylabel.bundle.bundle",
    "Classifier": "manylabel.classifier",
    "Prediction": "manylabel.inference.predictions",
}
"""What needs numpy and tokenizers is imported when it is asked for: the command says first where these do not fit."""


def __getattr__(name: str) -> object:
    """A public name from its module, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """Those that were not asked for yet, too."""
    return sorted({*globals(), *__all__})
