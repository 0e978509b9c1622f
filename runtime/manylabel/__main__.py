"""The command `manylabel`, and `python -m manylabel`: check that there is memory for the rest before importing it."""

import os
import resource
import sys

from manylabel.errors import OutOfMemory
from manylabel.system.process_supervisor import supervise
from manylabel.system.resource_errors import is_lack_of_memory, memory_for_import, out_of_memory

NUMPY_MEGABYTES = 112
"""Address space that importing numpy, tokenizers and the rest takes: 104 MB with numpy 2.4, which exits or raises
halfway with less."""


def main() -> None:
    """Run the command; if memory is limited, in a supervised child process."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        _command()
    else:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each further thread takes 40 MB, and nothing here needs it
        supervise(_command)


def _command() -> None:
    try:
        with memory_for_import("numpy", NUMPY_MEGABYTES):
            from manylabel.cli.main import main as command
    except Exception as exc:
        if not is_lack_of_memory(exc):
            raise
        print(f"OutOfMemory: {out_of_memory(exc)}", file=sys.stderr)
        sys.exit(OutOfMemory.exit_code)
    command(prog_name="manylabel")


if __name__ == "__main__":
    main()
