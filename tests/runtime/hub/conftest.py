"""A hub on loopback, and the command line in a process and with a cache of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from tests.helpers.hub_server import Hub, serving_hub

COMMANDS = """
import json, sys
from click.testing import CliRunner
from manylabel.cli.main import main
done = [CliRunner().invoke(main, arguments, catch_exceptions=False) for arguments in json.loads(sys.argv[1])]
print(json.dumps([(each.exit_code, each.stdout, each.stderr) for each in done]))
"""


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The last line of standard error; those before are progress bars of the library."""
        return self.stderr.splitlines()[-1]


class Run(Protocol):
    def __call__(self, *commands: list[object], **environment: str) -> list[Done]: ...


class Script(Protocol):
    def __call__(self, script: str, *arguments: object, **environment: str) -> str: ...


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub without repositories."""
    with serving_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The library's cache."""
    return tmp_path / "home"


@pytest.fixture
def script(hub: Hub, home: Path) -> Script:
    """Run a Python script with that hub, and return its output."""

    def run(text: str, *arguments: object, **environment: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
        done = subprocess.run(
            [sys.executable, "-c", text, *map(str, arguments)],
            env={**inherited, **ours},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def run(script: Script) -> Run:
    """Run commands of `manylabel` one after the other in one process; an uncaught exception fails the test."""

    def commands(*given: list[object], **environment: str) -> list[Done]:
        arguments = json.dumps([[str(each) for each in command] for command in given])
        return [Done(*each) for each in json.loads(script(COMMANDS, arguments, **environment).splitlines()[-1])]

    return commands
