"""A command where memory is limited, in a process that is watched: a library that finds none may end its process.

Rust and C++ abort where an allocation fails that they did not reckon with, and nothing can be caught then. Scoring
watches its worker in any case.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from manylabel.errors import OutOfMemory
from manylabel.system.resource_errors import is_lack_of_memory, more_memory

PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
BY_LIBRARIES = {-number: number.name for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)} | {
    127: "exit code 127"  # of glibc, which finds no memory for a thread's data; no command of ours has it
}
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def watched(command: Callable[[], object]) -> None:
    """Run a command in a child, and end as it does; where a library ended it, with a sentence.

    Returns in the child alone.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it does not outlive who is told to stop
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sys.unraisablehook = _unless_memory(sys.unraisablehook)
        threading.excepthook = _unless_memory(threading.excepthook)
        command()
        return
    code = _end_of(child)
    if code in BY_LIBRARIES:
        said = f"a library ended the process ({BY_LIBRARIES[code]}), most likely as it was granted no memory."
        print(f"OutOfMemory: {said} {more_memory()} Then give the command again.", file=sys.stderr)
        code = OutOfMemory.exit_code
    sys.exit(code if code >= 0 else 128 - code)  # as shells have it


def _unless_memory(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """Keep from showing that memory ran out in a library's thread, or in its last acts: the command itself says so."""
    return lambda shown: None if shown.exc_value and is_lack_of_memory(shown.exc_value) else hook(shown)


def _end_of(child: int) -> int:
    """What a child comes to, which is told what this process is; minus the number of a signal that ended it."""
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        told = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
        if told.si_signo != signal.SIGCHLD and told.si_code <= 0:  # by a process; a terminal tells the child itself
            os.kill(child, told.si_signo)
    return os.waitstatus_to_exitcode(ended[1])
