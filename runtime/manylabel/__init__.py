"""Every label that applies to a text, from ONNX Runtime, without PyTorch.

`Classifier.load(bundle)` answers; `manylabel.errors` has every error as a tree.
"""

from manylabel.bundle import Bundle
from manylabel.classifier import Classifier
from manylabel.decisions import Prediction
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
