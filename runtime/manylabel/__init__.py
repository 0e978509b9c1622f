"""Every label that applies to a text, from ONNX Runtime, without PyTorch.

`Classifier.load(bundle)` answers; `manylabel.errors` has every error as a tree.
"""

from manylabel.bundle import Bundle
from manylabel.classifier import Classifier
from manylabel.decisions import Prediction
from manylabel.errors import (
    BundleError,
    BundleTooNew,
    CheckpointError,
    DataError,
    DeviceUnavailable,
    ExportError,
    ForkedProcess,
    InputError,
    InvalidText,
    LabelMismatch,
    ManylabelError,
    MissingDependency,
    NonFiniteScore,
    OutputExists,
    ParityError,
    TextTooLong,
    UnknownLabel,
)

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "BundleTooNew",
    "CheckpointError",
    "Classifier",
    "DataError",
    "DeviceUnavailable",
    "ExportError",
    "ForkedProcess",
    "InputError",
    "InvalidText",
    "LabelMismatch",
    "ManylabelError",
    "MissingDependency",
    "NonFiniteScore",
    "OutputExists",
    "ParityError",
    "Prediction",
    "TextTooLong",
    "UnknownLabel",
]
