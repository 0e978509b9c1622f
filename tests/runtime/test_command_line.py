"""Shells and scripts: completion, JSON, exit codes and near misses, as docs/command-line.md says."""

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

from manylabel.cli import main

DOCS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def completed(python: Python, shell: str, words: str, at: int | str) -> list[str]:
    """What the shell's script gets of `manylabel` for words that are typed."""
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
    assert completed(python, "zsh", "manylabel verify b --js", 3) == ["plain", "--json", "One JSON document."]
    (line,) = completed(python, "fish", "manylabel verify b --js", "--js")
    assert line.split("\t") == ["plain,--json", "One JSON document."]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shells_script_asks_manylabel(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.exit_code == 0
    assert f"_MANYLABEL_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        option = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([shell, option], input=done.stdout, text=True, check=True, timeout=60)


def test_bash_itself_completes(cli: Cli, tmp_path: Path) -> None:
    """The script in a real bash, with a `manylabel` on its path."""
    (tmp_path / "manylabel").write_text(f'#!/bin/sh\nexec {sys.executable} -m manylabel "$@"\n')
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
    said = done.stdout
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in ("doctor", "predict", "verify"))
    assert "New here? manylabel doctor" in said


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
def test_near_misses_are_told(cli: Cli, arguments: list[str], sentence: str) -> None:
    done = cli(*arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_verify_gives_one_json_document(cli: Cli, bundle: Path) -> None:
    done = cli("verify", bundle, "--json", "--device", "cpu")
    said = json.loads(done.stdout)
    assert done.exit_code == 0
    assert said["checked"] == {"fp32": True, "int8": True, "fp16": False}
    assert said["files"] == len(json.loads(cli("inspect", bundle, "--json").stdout)["files"])


# What the page says


def test_the_page_says_of_every_command_whether_it_has_json() -> None:
    table = dict(re.findall(r"^\| `([\w-]+)` \| (`--json`|always|none)", DOCS, re.MULTILINE))
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if command.short_help == "(cannot be loaded)":  # the bare environment lacks what it needs
            continue
        has = any("--json" in option.opts for option in command.params)
        assert (table[name] == "`--json`") == has, name
    assert set(table) == set(main.list_commands(context))


def test_the_page_says_every_exit_code() -> None:
    from manylabel import errors
    from manylabel.doctor.cli import FOUND
    from manylabel.drift.cli import DRIFTED

    documented = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", DOCS, re.MULTILINE) for code in row.split(",")}
    ours = {
        error.exit_code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "exit_code")
    }
    assert documented == ours | {0, FOUND, DRIFTED, 4, 128 + 2, 128 + 15}
