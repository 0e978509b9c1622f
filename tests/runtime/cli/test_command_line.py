"""Shells and scripts: completion, JSON, exit codes and suggestions for typos, as docs/command-line.md documents."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.runtime.conftest import MAIN, ROOT, Cli, Python

from manylabel import errors
from manylabel.cli.main import main
from manylabel.doctor.cli import PROBLEM
from manylabel.drift.cli import DRIFTED

DOCS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def completed(python: Python, shell: str, words: str, at: int | str) -> list[str]:
    """Return what `manylabel` prints to the shell's completion script."""
    asked = {"_MANYLABEL_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    done = python(MAIN, **asked)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_bash_completes_commands_options_and_values(python: Python) -> None:
    assert completed(python, "bash", "manylabel ver", 1) == ["plain,verify"]
    assert completed(python, "bash", "manylabel ex", 1)[:1] == ["plain,explain"]
    assert completed(python, "bash", "manylabel predict b --prec", 3) == ["plain,--precision"]
    assert completed(python, "bash", "manylabel predict b --precision i", 4) == ["plain,int8"]


def test_zsh_and_fish_complete_with_help(python: Python) -> None:
    assert completed(python, "zsh", "manylabel verify b --js", 3) == ["plain", "--json", "Print one JSON document."]
    (line,) = completed(python, "fish", "manylabel verify b --js", "--js")
    assert line.split("\t") == ["plain,--json", "Print one JSON document."]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_calls_manylabel(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.exit_code == 0
    assert f"_MANYLABEL_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        option = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([shell, option], input=done.stdout, text=True, check=True, timeout=60)


def test_bash_itself_completes(cli: Cli, tmp_path: Path) -> None:
    """Run the script in a real bash, with a `manylabel` on its path."""
    entry = "from manylabel.cli.main import main; main(prog_name='manylabel')"
    (tmp_path / "manylabel").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{entry}" "$@"\n')
    (tmp_path / "manylabel").chmod(0o755)
    ask = "COMP_WORDS=(manylabel insp); COMP_CWORD=1; _manylabel_completion manylabel; echo ${COMPREPLY[@]}"
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    script = f"{cli('completion', 'bash').stdout}\n{ask}\n"
    done = subprocess.run(
        ["bash"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout == "inspect\n", done.stderr


def test_without_arguments_the_commands_are_listed(python: Python) -> None:
    done = python(MAIN)
    assert (done.returncode, done.stderr) == (0, "")
    output = done.stdout
    assert all(re.search(rf"^  {name} ", output, re.MULTILINE) for name in ("doctor", "predict", "verify"))
    assert output.splitlines()[-1].startswith("  manylabel doctor  ")


def next_commands(python: Python, folder: Path) -> list[str]:
    """Return the suggested commands in a folder."""
    done = python(f"import os; os.chdir({str(folder)!r})\n{MAIN}")
    return [line.split("  ")[1] for line in done.stdout.split("\nNext:\n")[1].splitlines()]


def test_next_steps_depend_on_the_folder(python: Python, tmp_path: Path, bundle: Path) -> None:
    can_train = importlib.util.find_spec("torch") is not None
    workbench = ["manylabel train DATA.csv --output run"] if can_train else ['pip install "manylabel[export,cpu]"']
    assert next_commands(python, tmp_path) == [*workbench, "manylabel doctor"]
    (tmp_path / "my reviews.csv").write_text("text,labels\n")
    if can_train:
        assert next_commands(python, tmp_path)[0] == "manylabel train 'my reviews.csv' --output run"
    (tmp_path / "first run").mkdir()
    (tmp_path / "first run" / "run.json").write_text("{}")
    assert next_commands(python, tmp_path)[0] == "manylabel export 'first run' --output bundle"
    shutil.copytree(bundle, tmp_path / "mine")
    expected = ['manylabel predict mine "a text"', "manylabel serve mine", "manylabel doctor"]
    assert next_commands(python, tmp_path) == expected


def test_python_m_manylabel_is_the_command(bundle: Path) -> None:
    command = [sys.executable, "-m", "manylabel", "predict", bundle, "late parcel"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["text"] == "late parcel"
    asked = subprocess.run([sys.executable, "-m", "manylabel", "predct"], capture_output=True, text=True)
    assert asked.stderr.startswith("Usage: manylabel ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predct", "b"], "No such command 'predct'. Did you mean 'predict'?"),
        (["explian", "b"], "No such command 'explian'. Did you mean 'explain'?"),
        (["answer"], "No such command 'answer'."),
        (["verify", "b", "--presicion", "int8"], "--precision"),
        (["verify", "b", "--precision", "int9"], "'int9' is not one of 'auto', 'fp32', 'int8', 'fp16'"),
    ],
)
def test_mistyped_command_suggests_nearest(cli: Cli, arguments: list[str], sentence: str) -> None:
    done = cli(*arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["predict", "bundel", "late"], "bundle"),
        (["inspect", "./bundle2"], "bundle"),
        (["certify", "bundle", "revews.csv"], "reviews.csv"),
        (["certify", "bundle", "dta/reviews.csv"], "data/reviews.csv"),
        (["score", "bundle", "revews.csv", "-o", "scored.csv"], "reviews.csv"),
        (["drift", "bundle", "revews.csv"], "reviews.csv"),
    ],
)
def test_missing_file_suggests_nearest(
    cli: Cli, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], meant: str
) -> None:
    if command[0] in ("score", "drift"):
        pytest.importorskip("pyarrow")
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "data").mkdir()
    for name in ("reviews.csv", "data/reviews.csv"):
        (tmp_path / name).write_text("text\nlate\n")
    monkeypatch.chdir(tmp_path)
    done = cli(*command)
    assert done.exit_code == 2
    assert done.stderr.endswith(f" Did you mean {meant!r}?\n")


def test_missing_file_without_similar_name(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews.csv").write_text("text\nlate\n")
    monkeypatch.chdir(tmp_path)
    assert "Did you mean" not in cli("inspect", "x").stderr


def test_triton_json_output(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "repository"
    done = cli("triton", bundle, "-o", output, "--name", "tiny", "--long-text", "truncate", "--json")
    document = json.loads(done.stdout)
    assert document["repository"] == str(output)
    assert sorted(document["models"]) == sorted(path.name for path in output.iterdir())


def test_verify_json_output(cli: Cli, bundle: Path) -> None:
    done = cli("verify", bundle, "--json", "--device", "cpu")
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document["checked"] == {"fp32": True, "int8": True, "fp16": False}
    assert document["files"] == len(json.loads(cli("inspect", bundle, "--json").stdout)["files"])


# The documentation


def test_docs_list_json_support_of_every_command() -> None:
    table = dict(re.findall(r"^\| `([\w-]+)` \| (`--json`|always|none)", DOCS, re.MULTILINE))
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if command.short_help == "(cannot be loaded)":  # its dependencies are not installed
            continue
        has = any("--json" in option.opts for option in command.params)
        assert (table[name] == "`--json`") == has, name
    assert set(table) == set(main.list_commands(context))


def test_docs_list_every_exit_code() -> None:
    documented = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", DOCS, re.MULTILINE) for code in row.split(",")}
    ours = {
        error.exit_code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "exit_code")
    }
    assert documented == ours | {0, PROBLEM, DRIFTED, 4, 128 + 2, 128 + 15}
