"""The command line's own commands and those that other import roots add to it."""

import re
from pathlib import Path

import pytest
from tests.runtime.conftest import MAIN, Cli, Python, one_line

from manylabel import __version__

ENTRY = """
import sys
from manylabel.cli import command_group
from manylabel.cli.main import main

class Point:
    name, value = {name!r}, "some_plugin.cli:command"
    def load(self):
        {load}

command_group.entry_points = lambda group, name=None: [Point()] if name in (None, {name!r}) else []
main(sys.argv[1:], prog_name="manylabel")
"""


def test_help_lists_plugin_commands_without_pytorch(python: Python) -> None:
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


def test_broken_plugin_breaks_its_own_commands_only(bundle: Path, python: Python) -> None:
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


def test_plugin_cannot_replace_a_command(bundle: Path, python: Python) -> None:
    done = python(ENTRY.format(name="predict", load="raise SystemExit(99)"), "predict", bundle, "late")
    assert done.returncode == 0, done.stderr


def test_unknown_command_is_a_usage_error(cli: Cli) -> None:
    done = cli("answer")
    assert done.exit_code == 2
    assert "No such command 'answer'" in done.stderr


def test_version_option(cli: Cli) -> None:
    assert cli("--version").stdout == f"manylabel, version {__version__}\n"


@pytest.mark.parametrize("command", [[], ["predict"], ["inspect"], ["verify"]])
def test_every_command_has_help(cli: Cli, command: list[str]) -> None:
    for flag in ("-h", "--help"):
        done = cli(*command, flag)
        assert done.exit_code == 0
        assert done.stdout.startswith("Usage:")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (5, "OSError: [Errno 5] no luck: '/somewhere/model.onnx'"),
        (
            28,
            "CannotWrite: there is no space left for /somewhere/model.onnx (no luck). "
            "Free some space, or write elsewhere.",
        ),
    ],
)
def test_os_error_is_one_line(python: Python, number: int, expected: str) -> None:
    load = (
        "import click\n"
        f"        def fail(): raise OSError({number}, 'no luck', '/somewhere/model.onnx')\n"
        "        return click.Command('plug', callback=fail)"
    )
    done = python(ENTRY.format(name="plug", load=load), "plug")
    assert done.returncode == 2
    assert one_line(done.stderr) == expected
