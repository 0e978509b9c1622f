"""Under a memory limit a command is supervised: it exits as it would by itself, or with an error message."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.runtime.conftest import Python, one_line

SUPERVISED = (
    "import ctypes, os, signal, sys, time\n"
    "from manylabel.system.process_supervisor import supervise\n"
    "supervise(lambda: {})"
)


@pytest.mark.parametrize(
    ("name", "end"), [("SIGABRT", "os.abort()"), ("SIGSEGV", "ctypes.string_at(0)"), ("exit code 127", "os._exit(127)")]
)
def test_process_ended_by_a_library_error(python: Python, name: str, end: str) -> None:
    done = python(SUPERVISED.format(end))
    assert (done.returncode, done.stdout) == (2, "")
    message = one_line(done.stderr)
    assert message.startswith(f"OutOfMemory: a library ended the process ({name}), ")
    assert "ulimit -v" in message


@pytest.mark.parametrize(
    ("command", "code", "shown"),
    [
        ("print('done')", 0, "done\n"),
        ("sys.exit(3)", 3, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, ""),
        ("print(sys.stdin.read())", 0, "\n"),
    ],
)
def test_supervised_exit_code_is_unchanged(python: Python, command: str, code: int, shown: str) -> None:
    done = python(SUPERVISED.format(command))
    assert (done.returncode, done.stdout, done.stderr) == (code, shown, "")


AT_THE_END = """
import atexit, threading
from manylabel.system.process_supervisor import supervise

def fail():
    raise {error}

def command():
    atexit.register(fail)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

supervise(command)
"""


def test_library_memory_errors_at_exit_are_hidden(python: Python) -> None:
    """The command reports the error itself."""
    assert python(AT_THE_END.format(error="MemoryError")).stderr == ""
    assert python(AT_THE_END.format(error="ValueError")).stderr.count("ValueError") == 2


def started(preparation: str = "None") -> tuple[subprocess.Popen[str], int]:
    """Start a supervised process that sleeps, and return it with the ID of its child."""
    script = SUPERVISED.format(f"({preparation}, print(os.getpid(), flush=True), time.sleep(60))")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline())


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 7), ("SIGHUP", 129)])
def test_signals_are_forwarded(name: str, code: int) -> None:
    """The command handles SIGINT itself; SIGTERM and SIGHUP have their default effect, even if nohup runs the tests."""
    usual = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    process, _ = started(f"signal.signal(signal.SIGINT, lambda *_: sys.exit(7)), {usual}")
    process.send_signal(getattr(signal, name))
    assert process.wait(30) == code
    assert process.stdout
    process.stdout.close()


def test_command_ends_with_its_supervisor() -> None:
    process, child = started()
    process.kill()
    process.wait()
    assert process.stdout
    assert process.stdout.read() == ""  # ends when the child has closed its standard output
    process.stdout.close()
    for _ in range(1000):
        if not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.01)
    raise AssertionError("the child still runs")


def test_command_is_supervised_under_memory_limit(bundle: Path) -> None:
    """Its input and output are passed through."""
    done = subprocess.run(
        [sys.executable, "-m", "manylabel", "predict", str(bundle), "--device", "cpu", "--threads", "1"],
        input="late parcel\n", capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('{"text": "late parcel"')


def test_memory_shortage_at_start_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "manylabel", "doctor"],
        capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (60 << 20, 60 << 20)),
        env={**os.environ, "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""},
    )  # fmt: skip
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("OutOfMemory: memory ran out while numpy was loaded, which takes ")
