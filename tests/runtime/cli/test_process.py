"""The command line as a process: its streams, signals, locale and terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.runtime.conftest import MAIN


def run(
    *arguments: object,
    stdin: bytes = b"",
    command: Sequence[str] = (sys.executable, "-m", "manylabel"),
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run `manylabel` in a process of its own, as a user does."""
    return subprocess.run(
        [*command, *map(str, arguments)],
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_closed_stdin_error(bundle: Path) -> None:
    done = run("predict", bundle, command=["sh", "-c", f'exec {sys.executable} -m manylabel "$@" <&-', "sh"])
    assert done.returncode == 2
    assert b"standard input is closed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_command_equals_python_m(bundle: Path) -> None:
    script = Path(sys.executable).with_name("manylabel")
    answers = [
        run("predict", bundle, "late", command=command)
        for command in ([str(script)], [sys.executable, "-m", "manylabel"])
    ]
    assert [done.returncode for done in answers] == [0, 0]
    assert answers[0].stdout == answers[1].stdout
    assert json.loads(answers[0].stdout)["text"] == "late"


def test_output_is_utf8_in_any_locale(bundle: Path) -> None:
    for options in ([], ["--table"]):
        done = run(
            "predict", bundle, "zu sp\u00e4t \u2713", *options, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0"
        )
        assert done.returncode == 0, done.stderr
        assert "zu sp\u00e4t \u2713" in done.stdout.decode("utf-8")


def test_non_utf8_argument_is_accepted(bundle: Path) -> None:
    for options in ([], ["--table"]):
        command = [sys.executable, "-m", "manylabel", "predict", str(bundle), *options]
        done = subprocess.run([*map(os.fsencode, command), b"late \xff"], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "late \ufffd" in done.stdout.decode("utf-8")


def test_broken_pipe_ends_quietly(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("the parcel was late\n" * 20_000)
    with (tmp_path / "texts").open("rb") as texts:
        process = subprocess.Popen(
            [sys.executable, "-m", "manylabel", "predict", str(bundle)],
            stdin=texts,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    assert process.stdout
    assert process.stderr
    assert json.loads(process.stdout.readline())["text"] == "the parcel was late"
    process.stdout.close()
    output = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert output == b""


def test_ctrl_c_ends_without_traceback(bundle: Path, unmeasured: dict[str, str]) -> None:
    """A shell's background jobs ignore SIGINT, and Python inherits that; the first line of the script undoes it."""
    script = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{MAIN}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "predict", str(bundle)],
        env=unmeasured,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write(b"late\n" * 2000)  # more than one buffer, so that the first predictions come before the end
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.split() == [b"Aborted!"]


def test_predict_is_interactive_on_a_terminal(bundle: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "manylabel", "predict", str(bundle)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    output = b""

    def read_until(mark: str) -> None:
        nonlocal output
        while mark.encode() not in output:
            output += os.read(ours, 4096)

    try:
        read_until("end with Ctrl-D")
        os.write(ours, b"the parcel was late\n")
        read_until("user experience")  # the prediction for the first line, before a second one is typed
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "✓" in output.decode()
