"""Every error that manylabel raises on purpose.

```
ManylabelError
├── InputError              what was handed in cannot be used
│   ├── InvalidText         a text is not a string
│   │   └── TextTooLong     a text exceeds `max_length` tokens under the policy "error"
│   ├── UnknownLabel        a label that is not in the set
│   ├── DataError           a file of labelled texts cannot be read as such
│   ├── CheckpointError     a checkpoint cannot be used
│   │   └── LabelMismatch   its labels are not those of the data
│   ├── OutputExists        the output is there already
│   └── JobChanged          a run is gone on with by another bundle, input or option
├── MissingDependency       an optional package is absent, or two exclude each other
├── HubError                a hub has it not, gives it not, or cannot be reached
├── DeviceUnavailable       the device that was asked for cannot run
├── WorkerDied              a process that scores files ended, and no single row is to blame
├── ForkedProcess           a loaded classifier was carried into a forked process
├── Interrupted             a signal told a command to stop
├── CannotWrite             the disk is full, or the place cannot be written to
├── OutOfMemory             memory ran out
├── BudgetExceeded          a variant differs more from its reference than was allowed
├── ExportError             a checkpoint cannot be turned into a graph
│   └── ParityError         a graph answers otherwise than PyTorch
└── BundleError             a folder is no bundle, or a damaged one
    ├── BundleTooNew        it was written by a later version
    ├── SignatureInvalid    it is not signed by the key that was asked for
    └── NonFiniteScore      its graph gave a score that is no number
```

A message says what happened, what was expected, and the next step. The command line prints it as one
line and exits with `exit_code`: 2 for wrong usage or input, 3 for a bundle that fails verification or a variant beyond
its budget, 128 and the signal's number for a command that was told to stop.
"""


class ManylabelError(Exception):
    """Base of all errors that manylabel raises on purpose."""

    exit_code = 2


class InputError(ManylabelError):
    """What was handed in cannot be used."""


class InvalidText(InputError):
    """A text is not a string."""


class TextTooLong(InvalidText):
    """A text exceeds `max_length` tokens under the policy `"error"`."""


class UnknownLabel(InputError):
    """A label that is not in the set of labels."""


class DataError(InputError):
    """A file of labelled texts is missing, empty, or not in the form that was said."""


class CheckpointError(InputError):
    """A checkpoint is missing, unreadable, or of another kind than the step needs."""


class LabelMismatch(CheckpointError):
    """The labels of a checkpoint are not those of the data."""


class OutputExists(InputError):
    """The output is there already and `--force` was not given."""


class JobChanged(InputError):
    """A run over files is gone on with by another bundle, input or option than it was begun with."""


class WorkerDied(ManylabelError):
    """A process that scores files ended again and again, and no single row is to blame."""


class MissingDependency(ManylabelError):
    """An optional package is absent, or two that exclude each other are both installed."""


class HubError(ManylabelError):
    """A hub does not have what was asked for, does not give it, or cannot be reached."""


class DeviceUnavailable(ManylabelError):
    """The device that was asked for cannot run."""


class ForkedProcess(ManylabelError):
    """A classifier that was loaded before `fork` is used in the child."""


class Interrupted(ManylabelError):
    """A signal told a command to stop.

    Args:
        message: What is kept, and how to go on.
        exit_code: 128 and the signal's number, as shells have it.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CannotWrite(ManylabelError):
    """The disk is full, a quota or a limit is reached, or the place cannot be written to."""


class OutOfMemory(ManylabelError):
    """Memory ran out."""


class BudgetExceeded(ManylabelError):
    """A variant's answers differ more from its reference's than was allowed."""

    exit_code = 3


class ExportError(ManylabelError):
    """A checkpoint cannot be turned into a graph."""


class ParityError(ExportError):
    """A graph answers otherwise than the PyTorch model that it came from."""


class BundleError(ManylabelError):
    """A folder is no bundle, or a damaged one."""

    exit_code = 3


class BundleTooNew(BundleError):
    """A bundle was written in a format that this version does not know."""


class SignatureInvalid(BundleError):
    """A bundle is not signed, not by the key that was asked for, or was changed after it was signed."""


class NonFiniteScore(BundleError):
    """A graph gave a probability that is no number."""
