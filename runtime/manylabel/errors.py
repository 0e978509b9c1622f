"""All errors that manylabel raises on purpose, as a tree.

```
ManylabelError
├── InputError              an argument or an input file cannot be used
│   ├── InvalidText         a text is not a string
│   │   └── TextTooLong     a text exceeds `max_length` tokens under the policy "error"
│   ├── UnknownLabel        a label does not exist
│   ├── DataError           a file of labelled texts cannot be read
│   ├── CheckpointError     a checkpoint cannot be used
│   │   └── LabelMismatch   its labels differ from those of the data
│   ├── OutputExists        the output already exists
│   └── JobChanged          a run is resumed with another bundle, input or option
├── MissingDependency       an optional package is not installed, or two exclude each other
├── HubError                not found on the Hub, access denied, or the Hub cannot be reached
├── DeviceUnavailable       the requested device cannot be used
├── WorkerDied              a process that scores files died, and no single row is the cause
├── ForkedProcess           a classifier that was loaded before a fork is used after it
├── Interrupted             a signal stopped a command
├── CannotWrite             the disk is full, or the folder cannot be written to
├── OutOfMemory             memory ran out
├── BudgetExceeded          a variant differs from its reference by more than is allowed
├── ExportError             a checkpoint cannot be exported
│   └── ParityError         the graph's scores differ from PyTorch's
└── BundleError             a folder is not a bundle, or the bundle is damaged
    ├── BundleTooNew        it was written by a newer version
    ├── SignatureInvalid    it is not signed with the requested key
    └── NonFiniteScore      the model returned NaN or infinity
```

A message says what happened, what was expected, and the next step. The command line prints it as one line and exits
with `exit_code`: 2 for wrong usage or input, 3 for a bundle that fails verification or a variant beyond its budget, 128
plus the signal's number for a command that was stopped by a signal.

Example:
    >>> from manylabel import Classifier, ManylabelError
    >>> try:
    ...     Classifier.load("no/such/folder")
    ... except ManylabelError as error:
    ...     print(f"{type(error).__name__}: {error}")
    InputError: there is no bundle at no/such/folder: no such folder. Make one with manylabel export.
"""

from importlib.util import find_spec


class ManylabelError(Exception):
    """The base class of all errors that manylabel raises on purpose.

    Example:
        >>> raise ManylabelError("what happened, what was expected, and the next step")
        Traceback (most recent call last):
        manylabel.errors.ManylabelError: what happened, what was expected, and the next step
    """

    exit_code = 2


class InputError(ManylabelError):
    """An argument or an input file cannot be used.

    Example:
        >>> from manylabel import Classifier
        >>> Classifier.load("bundle", threads=0)
        Traceback (most recent call last):
        manylabel.errors.InputError: threads is 0; expected 1 or more, or None for all cores.
    """


class InvalidText(InputError):
    """A text is not a string.

    Example:
        >>> from manylabel import Classifier
        >>> Classifier.load("bundle").predict(["late", None])
        Traceback (most recent call last):
        manylabel.errors.InvalidText: text 1 is NoneType ('None'), not a string. ...
    """


class TextTooLong(InvalidText):
    """A text exceeds `max_length` tokens under the policy `"error"`."""


class UnknownLabel(InputError):
    """A label does not exist.

    Example:
        >>> from manylabel import Classifier
        >>> Classifier.load("bundle").explain("late again", "delivry")
        Traceback (most recent call last):
        manylabel.errors.UnknownLabel: there is no label 'delivry'. Did you mean 'delivery'?
    """


class DataError(InputError):
    """A file of labelled texts is missing, empty, or not in the expected form."""


class CheckpointError(InputError):
    """A checkpoint is missing, unreadable, or of another kind than the step needs."""


class LabelMismatch(CheckpointError):
    """The labels of a checkpoint differ from those of the data."""


class OutputExists(InputError):
    """The output already exists, and `force` was not given.

    Example:
        >>> from pathlib import Path
        >>> from manylabel.system.atomic_write import atomic_folder
        >>> with atomic_folder(Path("bundle")):
        ...     pass
        Traceback (most recent call last):
        manylabel.errors.OutputExists: bundle already exists. Choose another output, or replace it with --force.
    """


class JobChanged(InputError):
    """A run over files is resumed with another bundle, input or option than it was started with."""


class WorkerDied(ManylabelError):
    """A process that scores files died repeatedly, and no single row is the cause."""


class MissingDependency(ManylabelError):
    """An optional package is not installed, or two that exclude each other are both installed.

    Example:
        >>> str(MissingDependency('hf:// needs huggingface_hub. pip install "manylabel[hub]"'))
        'hf:// needs huggingface_hub. pip install "manylabel[hub]"'
    """


class HubError(ManylabelError):
    """A bundle is not found on the Hub, access is denied, or the Hub cannot be reached."""


class DeviceUnavailable(ManylabelError):
    """The requested device cannot be used.

    Example:
        >>> from manylabel import Classifier
        >>> Classifier.load("bundle", device="tpu")
        Traceback (most recent call last):
        manylabel.errors.DeviceUnavailable: there is no device 'tpu'. Choose auto, cpu or cuda.
    """


class ForkedProcess(ManylabelError):
    """A classifier that was loaded before a `fork` is used in the child process."""


class Interrupted(ManylabelError):
    """A signal stopped a command.

    Args:
        message: What is kept, and how to continue.
        exit_code: 128 plus the signal's number, as shells do.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CannotWrite(ManylabelError):
    """The disk is full, a quota or a limit is reached, or the folder cannot be written to."""


class OutOfMemory(ManylabelError):
    """Memory ran out."""


class BudgetExceeded(ManylabelError):
    """A variant's predictions differ from its reference's by more than is allowed."""

    exit_code = 3


class ExportError(ManylabelError):
    """A checkpoint cannot be exported."""


class ParityError(ExportError):
    """The graph's scores differ from those of the PyTorch model that it was exported from."""


class BundleError(ManylabelError):
    """A folder is not a bundle, or the bundle is damaged.

    Example:
        >>> from manylabel import Bundle
        >>> Bundle.open("run")
        Traceback (most recent call last):
        manylabel.errors.BundleError: run is not a bundle: it has no bundle.json. Make one with manylabel export.
    """

    exit_code = 3


class BundleTooNew(BundleError):
    """A bundle was written in a format that this version does not support."""


class SignatureInvalid(BundleError):
    """A bundle is not signed, not signed with the requested key, or was changed after it was signed."""


class NonFiniteScore(BundleError):
    """The model returned NaN or infinity."""


def first_line(exc: BaseException) -> str:
    r"""Return the first line of another library's error, which may add hints in further lines; else the error's type.

    Example:
        >>> first_line(ValueError("unknown scheme\nKnown are s3 and gs."))
        'unknown scheme'
    """
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__


def missing_extra(extra: str, module: str) -> MissingDependency:
    """Return the error for a module of an optional extra that is not installed.

    Example:
        >>> print(missing_extra("server", "starlette"))
        starlette is not installed. pip install "manylabel[server,cpu]"
    """
    return MissingDependency(f'{module} is not installed. pip install "manylabel[{extra},cpu]"')


def require_extra(extra: str, *modules: str) -> None:
    """Raise `MissingDependency` unless all given modules of an optional extra are installed.

    Nothing is imported, so that the check is quick.

    Args:
        extra: The extra, such as `"server"`.
        modules: Top-level modules of the extra.

    Raises:
        MissingDependency: One of the modules is not installed.

    Example:
        >>> require_extra("cpu", "numpy", "tokenizers")
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing_extra(extra, module)
