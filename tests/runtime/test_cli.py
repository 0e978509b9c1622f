"""The command line: answers on standard output, faults in a line on standard error, exit codes 0, 2 and 3."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.conftest import Cli, Python, Resign

from manylabel import Classifier, __version__
from manylabel.terminal import table
from tiny import LABELS

MAIN = "import sys; from manylabel.cli import main; main(sys.argv[1:], prog_name='manylabel')"
ENTRY = """
import sys
from manylabel import cli

class Point:
    name, value = {name!r}, "some_plugin.cli:command"
    def load(self):
        {load}

real = cli.entry_points
cli.entry_points = lambda group, name=None: [Point()] if name in (None, {name!r}) else []
cli.main(sys.argv[1:], prog_name="manylabel")
"""


def run(
    *arguments: object,
    stdin: bytes = b"",
    command: Sequence[str] = (sys.executable, "-m", "manylabel"),
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """`manylabel` as a user calls it, in a process of its own."""
    return subprocess.run(
        [*command, *map(str, arguments)],
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


# predict


def test_each_text_gives_one_line_of_json(bundle: Path, cli: Cli, classifier: Classifier) -> None:
    done = cli("predict", bundle, "the parcel was late", "", "sehr schön")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["the parcel was late", "", "sehr schön"]
    assert list(lines[0]) == ["text", "labels", "scores", "n_tokens", "truncated"]
    expected = classifier.classify("the parcel was late")[0]
    assert lines[0]["scores"] == expected.scores
    assert lines[0]["labels"] == expected.labels


def test_texts_come_from_standard_input_one_a_line(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin="late\r\n\n  good  \nzu sp\u00e4t\rteuer\nno end")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["late", "", "  good  ", "zu sp\u00e4t\rteuer", "no end"]


def test_many_lines_keep_their_order(bundle: Path, cli: Cli) -> None:
    texts = [f"parcel {'late ' * (n % 7)}{n}" for n in range(600)]
    lines = [json.loads(line) for line in cli("predict", bundle, stdin="\n".join(texts)).stdout.splitlines()]
    assert [line["text"] for line in lines] == texts


def test_bytes_that_are_no_utf_8_are_read_as_the_replacement_character(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin=b"\xef\xbb\xbflate \xff\xfe\nsp\xc3\xa4t\n")
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["late \ufffd\ufffd", "sp\u00e4t"]


def test_no_texts_give_no_lines(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, stdin="")
    assert (done.exit_code, done.output) == (0, "")


def test_closed_standard_input_is_named(bundle: Path) -> None:
    done = run("predict", bundle, command=["sh", "-c", f'exec {sys.executable} -m manylabel "$@" <&-', "sh"])
    assert done.returncode == 2
    assert b"standard input is closed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_table_is_for_readers(bundle: Path, cli: Cli) -> None:
    done = cli("predict", bundle, "the parcel was late", "--table", "--threshold", 0.6, "--precision", "fp32")
    text, *rows, blank = done.stdout.splitlines()
    assert (text, blank) == ("the parcel was late", "")
    assert sorted(row.split("  ")[-1].strip().lstrip("█ ") for row in rows) == sorted(LABELS)
    for row in rows:
        marked, probability = re.match(r"  ([✓ ])  ?([\d.]+)", row).groups()  # type: ignore[union-attr]
        assert (marked == "✓") == (float(probability) >= 0.6)


def test_a_text_cannot_steer_the_terminal(classifier: Classifier) -> None:
    text = "\x1b[2J\x1b]0;title\x07\r\nlate \udcff \u202e"
    shown = table(text, classifier.classify(text)[0]).splitlines()[0]
    assert shown == "�[2J�]0;title���late � �"


def test_a_table_shows_the_beginning_of_a_long_text_and_tells_of_truncation(bundle: Path, cli: Cli) -> None:
    text, *_, last, _ = cli("predict", bundle, "late " * 10_000, "--table").stdout.splitlines()
    assert text == ("late " * 20)[:99] + "…"
    assert last == "  the end of the text was not read"


def test_top_k_and_thresholds(bundle: Path, cli: Cli) -> None:
    def labels(*options: object) -> Any:
        line = json.loads(cli("predict", bundle, "late", *options).stdout)
        return sorted(line["labels"]), len(line["scores"])

    assert labels("--threshold", 0) == (sorted(LABELS), 4)
    assert labels("--threshold", 1, "--top-k", 2) == ([], 2)
    assert labels("--threshold", 1, "--threshold", "price=0") == (["price"], 4)
    assert labels("--threshold", "user experience=0", "--threshold", "price=0", "--threshold", 1) == ([], 4)
    assert labels("--threshold", "price=0", "--threshold", "price=1")[0] == labels("--threshold", "price=1")[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threshold", "half"], "--threshold 'half' is neither a number nor LABEL=number"),
        (["--threshold", "price=high"], "neither a number nor LABEL=number"),
        (["--threshold", ""], "neither a number"),
        (["--threshold", "prise=0.4"], "UnknownLabel: there is no label 'prise'. Did you mean 'price'?"),
        (["--threshold", "=0.4"], "UnknownLabel: there is no label ''"),
        (["--threshold", "2"], "a threshold is a probability between 0 and 1; found 2.0"),
        (["--threshold", "nan"], "found nan"),
        (["--top-k", "0"], "0 is not in the range x>=1"),
        (["--threads", "0"], "0 is not in the range x>=1"),
        (["--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["--precision", "bf16"], "'bf16' is not one of"),
        (["--precision", "fp16", "--device", "cpu"], "model_fp16.onnx is made for CUDAExecutionProvider, not for cpu"),
        (["--colour"], "No such option"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(bundle: Path, cli: Cli, options: list[str], sentence: str) -> None:
    done = cli("predict", bundle, "late", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_text_that_is_too_long_is_found_by_its_place(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    done = cli("predict", own_bundle, stdin="late\n" * 300 + "late " * 40 + "\n")
    assert done.exit_code == 2
    assert len(done.stdout.splitlines()) == 256  # those before it that were answered together
    assert "text 44 has 42 tokens" in one_line(done.stderr)
    assert "counted from 0, beginning at text 257 of the input" in done.stderr


# Bundles


@pytest.mark.parametrize("command", ["predict", "inspect", "verify"])
@pytest.mark.parametrize("name", ["nowhere", "x" * 5000, "two\nlines"])
def test_a_missing_bundle_is_wrong_input(tmp_path: Path, cli: Cli, command: str, name: str) -> None:
    done = cli(command, tmp_path / name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert one_line(done.stderr).startswith("InputError: there is no bundle at ")


@pytest.mark.parametrize("command", ["predict", "inspect", "verify"])
def test_a_damaged_bundle_is_exit_code_3(own_bundle: Path, cli: Cli, command: str) -> None:
    (own_bundle / "extra").write_text("x")
    done = cli(command, own_bundle)
    assert (done.exit_code, done.stdout) == (3, "")
    assert one_line(done.stderr).startswith("BundleError: ")


def test_inspect_shows_what_a_bundle_is(bundle: Path, cli: Cli) -> None:
    done = cli("inspect", bundle)
    assert done.exit_code == 0
    for part in (*LABELS, "fp32", "int8", "model_fp16.onnx", "32 tokens", "window", "tuned on validation data"):
        assert part in done.stdout
    for figure in ("against PyTorch: ", "max_difference ", "macro_f1 "):
        assert done.stdout.count(figure) == 3


def test_inspect_tells_of_untuned_thresholds_and_of_training(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        figures = {"texts": 10, "tuned": {"macro_f1": 0.5}, "at_half": {"macro_f1": 0.25}}
        manifest.update(thresholds_tuned=False, metrics={"test": figures})

    said = cli("inspect", resign(own_bundle, edit)).stdout
    assert "thresholds 0.5: no validation data was given" in said
    assert "  test, PyTorch: texts 10\n" in said
    assert "  test, PyTorch, tuned: macro_f1 0.5\n" in said


def test_inspect_as_json_is_the_manifest(bundle: Path, cli: Cli) -> None:
    assert cli("inspect", bundle, "--json").stdout_bytes == (bundle / "bundle.json").read_bytes()


def test_verify_says_what_it_checked(bundle: Path, cli: Cli) -> None:
    done = cli("verify", bundle, "--device", "cpu")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "9 files as bundled",
        "fp32 on cpu: 6 probes answered as expected",
        "int8 on cpu: 6 probes answered as expected",
        "fp16: not checked, it is not made for cpu",
    ]
    assert cli("verify", bundle, "--device", "cpu", "--precision", "int8").stdout.splitlines()[1:] == [
        "int8 on cpu: 6 probes answered as expected"
    ]


def test_verify_fails_where_nothing_runs(own_bundle: Path, resign: Resign, cli: Cli) -> None:
    def only_cuda(manifest: dict[str, Any]) -> None:
        manifest["variants"] = manifest["variants"][2:]

    resign(own_bundle, only_cuda)
    done = cli("verify", own_bundle, "--device", "cpu")
    assert done.exit_code == 2
    assert "has no variant for cpu" in done.stderr
    assert cli("verify", own_bundle, "--device", "cpu", "--precision", "fp16").exit_code == 2


# Commands of other import roots


def test_help_lists_the_commands_of_other_roots_without_pytorch(python: Python) -> None:
    block = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'optimum', 'onnx', 'sklearn'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    done = python(block + MAIN, "--help")
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^  (\w+)  ", done.stdout.split("Commands:")[1], re.MULTILINE)
    assert {"export", "inspect", "predict", "train", "verify"} <= set(commands)
    assert not re.search(r"(train|export) +\(cannot be loaded\)", done.stdout)
    done = python(block + MAIN, "export", "run", "--output", "bundle")
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("MissingDependency: ")


def test_a_root_that_cannot_be_imported_breaks_its_own_commands_only(bundle: Path, python: Python) -> None:
    script = ENTRY.format(name="plug", load="raise ImportError(\"No module named 'some_plugin'\")")
    listed = python(script, "--help")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"plug +\(cannot be loaded\)", listed.stdout)
    assert "predict" in listed.stdout
    named = python(script, "plug", "data", "--option")
    assert named.returncode == 2
    assert one_line(named.stderr).startswith(
        "MissingDependency: manylabel plug cannot be loaded: No module named 'some_plugin'."
    )
    assert python(script, "predict", bundle, "late").returncode == 0


def test_a_root_cannot_take_the_place_of_a_command(bundle: Path, python: Python) -> None:
    done = python(ENTRY.format(name="predict", load="raise SystemExit(99)"), "predict", bundle, "late")
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_wrong_usage(cli: Cli) -> None:
    done = cli("answer")
    assert done.exit_code == 2
    assert "No such command 'answer'" in done.stderr


def test_the_version_is_told(cli: Cli) -> None:
    assert cli("--version").stdout == f"manylabel, version {__version__}\n"


@pytest.mark.parametrize("command", [[], ["predict"], ["inspect"], ["verify"]])
def test_every_command_explains_itself(cli: Cli, command: list[str]) -> None:
    for flag in ("-h", "--help"):
        done = cli(*command, flag)
        assert done.exit_code == 0
        assert done.stdout.startswith("Usage:")


def test_a_fault_of_the_system_is_a_line(python: Python) -> None:
    load = (
        "import click\n"
        "        def fail(): raise OSError(28, 'No space left on device', '/somewhere/model.onnx')\n"
        "        return click.Command('plug', callback=fail)"
    )
    done = python(ENTRY.format(name="plug", load=load), "plug")
    assert done.returncode == 2
    assert one_line(done.stderr) == "OSError: [Errno 28] No space left on device: '/somewhere/model.onnx'"


# As a process


def test_the_command_and_the_module_are_the_same(bundle: Path) -> None:
    script = Path(sys.executable).with_name("manylabel")
    answers = [
        run("predict", bundle, "late", command=command)
        for command in ([str(script)], [sys.executable, "-m", "manylabel"])
    ]
    assert [done.returncode for done in answers] == [0, 0]
    assert answers[0].stdout == answers[1].stdout
    assert json.loads(answers[0].stdout)["text"] == "late"


def test_output_is_utf_8_whatever_the_locale(bundle: Path) -> None:
    for options in ([], ["--table"]):
        done = run(
            "predict", bundle, "zu sp\u00e4t \u2713", *options, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0"
        )
        assert done.returncode == 0, done.stderr
        assert "zu sp\u00e4t \u2713" in done.stdout.decode("utf-8")


def test_an_argument_that_is_no_utf_8_is_answered(bundle: Path) -> None:
    for options in ([], ["--table"]):
        command = [sys.executable, "-m", "manylabel", "predict", str(bundle), *options]
        done = subprocess.run([*map(os.fsencode, command), b"late \xff"], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "late \ufffd" in done.stdout.decode("utf-8")


def test_a_reader_that_leaves_ends_it_quietly(bundle: Path, tmp_path: Path) -> None:
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
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert said == b""


def test_an_interruption_ends_it_without_a_traceback(bundle: Path) -> None:
    """Python ignores the signal where its parent did, as a shell's background jobs do; hence the first line."""
    script = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{MAIN}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "predict", str(bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write(b"late\n" * 2000)  # more than one buffer, so that the first answers come before the end
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.split() == [b"Aborted!"]


def test_on_a_terminal_texts_are_answered_as_they_are_typed(bundle: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "manylabel", "predict", str(bundle)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""

    def read_until(mark: str) -> None:
        nonlocal said
        while mark.encode() not in said:
            said += os.read(ours, 4096)

    try:
        read_until("end with Ctrl-D")
        os.write(ours, b"the parcel was late\n")
        read_until("user experience")  # the answer to the first line, before there is a second
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "✓" in said.decode()
