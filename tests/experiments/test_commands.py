"""Every command that a committed result, a page or the Makefile names still exists, with its options."""

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.conftest import ROOT

FOLDERS = ("benchmarks/results", "benchmarks/experiments", "benchmarks/load_tests", "tests/fault_injection/results")
EXPERIMENTS = sorted(path.parent.name for path in (ROOT / "benchmarks" / "experiments").glob("*/run.py"))
MODULE = re.compile(r"-m ((?:experiments|load_tests|manylabel_bench|tests\.fault_injection)[\w.]*)")


def commands_in(value: Any) -> Iterator[str]:
    """Yield the strings under the key `command`, at any depth."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key == "command" and isinstance(item, str) and item.startswith(("python", "manylabel", "make")):
            yield item
        else:
            yield from commands_in(item)


def committed_commands() -> Iterator[str]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.json"):
            yield from commands_in(json.loads(path.read_text(encoding="utf-8")))


def load_command(words: list[str]) -> click.Command | None:
    """Return the click command that a line calls; None for `make`."""
    if words[0] == "make":
        return None
    if words[:2] == ["manylabel", "bench"]:
        return importlib.import_module("manylabel_bench.cli").bench  # type: ignore[no-any-return]
    assert words[1] == "-m", words
    name = "load_tests.__main__" if words[2] == "load_tests" else words[2]
    return importlib.import_module(name).main  # type: ignore[no-any-return]


@pytest.mark.parametrize("line", sorted(set(committed_commands())))
def test_committed_command_has_known_options(line: str) -> None:
    words = shlex.split(line)
    command = load_command(words)
    if command is None:
        return
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_shows_its_help(name: str) -> None:
    done = CliRunner().invoke(importlib.import_module(f"experiments.{name}.run").main, ["--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "page",
    ["Makefile", "README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))],
)
def test_named_modules_exist(page: str) -> None:
    for name in MODULE.findall((ROOT / page).read_text(encoding="utf-8")):
        assert find_spec(name.rstrip(".")), f"{page} names {name}"
