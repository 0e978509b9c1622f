"""Run a command in a supervised child process where memory is limited: a library that runs out may end its process.

Rust and C++ libraries abort when an allocation fails that they do not expect to fail, and nothing can catch that. File
scoring always supervises its workers.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from manylabel.errors import OutOfMemory
from manylabel.system.resource_errors import is_lack_of_memory, memory_advice

FORWARDED_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
LIBRARY_CRASHES = {
    -number: number.name for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)
} | {
    127: "exit code 127"  # glibc, without memory for a thread's data; no command of ours uses it
}
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def supervise(command: Callable[[], object]) -> None:
    """Run a command in a child process and exit as it does; if a library crashed it, print an error.

    Returns only in the child.

    Example:
        >>> command = lambda: print("done")
        >>> supervise(command)  # doctest: +SKIP
        done
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED_SIGNALS, signal.SIGCHLD})
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it does not outlive its supervisor
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sys.unraisablehook = _hide_memory_errors(sys.unraisablehook)
        threading.excepthook = _hide_memory_errors(threading.excepthook)
        command()
        return
    code = _wait_forwarding_signals(child)
    if code in LIBRARY_CRASHES:
        reason = f"a library ended the process ({LIBRARY_CRASHES[code]}), most likely because memory ran out."
        print(f"OutOfMemory: {reason} {memory_advice()} Then run the command again.", file=sys.stderr)
        code = OutOfMemory.exit_code
    sys.exit(code if code >= 0 else 128 - code)  # the shells' convention


def _hide_memory_errors(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """Do not report that memory ran out in a library's thread or at exit: the command itself reports it."""
    return lambda error: None if error.exc_value and is_lack_of_memory(error.exc_value) else hook(error)


def _wait_forwarding_signals(child: int) -> int:
    """Wait for a child, forward signals to it, and return its exit code, or minus the signal that ended it."""
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        received = signal.sigwaitinfo({*FORWARDED_SIGNALS, signal.SIGCHLD})
        from_process = received.si_code <= 0  # a terminal sends its signals to the child, too
        if received.si_signo != signal.SIGCHLD and from_process:
            os.kill(child, received.si_signo)
    return os.waitstatus_to_exitcode(ended[1])
