"""Multi-label text classification with ONNX Runtime, without PyTorch.

Start with `Classifier.load`. In the order in which to read the package:

- `errors`: all errors, as a tree;
- `classifier`: `Classifier`, which composes the packages below;
- `load_options`: explicit arguments, a tuned plan and defaults resolve to what a classifier runs with;
- `inference`: texts to probabilities to labels;
- `bundle`: the folder that is loaded;
- `hub`: bundles on the Hugging Face Hub;
- `data`, `frames`: files, and tables of pandas, polars, DuckDB and Arrow;
- `explain`, `certify`, `drift`, `doctor`, `tune`, `scoring`: one capability each, with its command;
- `server`: HTTP;
- `engines`: Ray, Spark and Triton;
- `cli`: the command line;
- `system`: files, memory and hardware.
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
"""Names whose modules need numpy and tokenizers are imported on first use: the command first checks the memory."""


def __getattr__(name: str) -> object:
    """Import a public name from its module, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """Include the names that were not imported yet."""
    return sorted({*globals(), *__all__})
