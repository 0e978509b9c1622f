"""The command `manylabel`, and `python -m manylabel`: light until it is known that there is room for the rest."""

import os
import resource
import sys

from manylabel.errors import OutOfMemory
from manylabel.system.process_supervisor import watched
from manylabel.system.resource_errors import is_lack_of_memory, loading, out_of_memory

ROOM = 112
"""MB that numpy, tokenizers and what else the command imports take: 104 with numpy 2.4, which ends the process or
raises from its midst with less."""


def main() -> None:
    """Run the command; where memory is limited, in a process that is watched."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        _command()
    else:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # 40 MB for every other core, which nothing here needs
        watched(_command)


def _command() -> None:
    try:
        with loading("numpy", ROOM):
            from manylabel.cli.main import main as command
    except Exception as exc:
        if not is_lack_of_memory(exc):
            raise
        print(f"OutOfMemory: {out_of_memory(exc)}", file=sys.stderr)
        sys.exit(OutOfMemory.exit_code)
    command(prog_name="manylabel")


if __name__ == "__main__":
    main()
