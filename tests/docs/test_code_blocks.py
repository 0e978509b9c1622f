"""Run every code block of the README and the documentation that can run here, and check the others for valid names.

The blocks of a page run in order in one folder, which contains the files that the pages mention, of a tiny model:
`reviews.csv`, `run`, `bundle` and so on. Commands write to this folder. `pip install` and `make` are never run, but
the extras and targets that they name must exist.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.helpers import toy
from tests.helpers.blocks import PAGES, ROOT, Block, blocks, check_command_lines, check_python
from tests.helpers.serving import serving

from manylabel import BudgetExceeded, Classifier
from manylabel.cli.main import main

NOT_RUN = {
    "README.md": ["builds environments; CI calls the same targets", "needs a bucket"],
    "docs/benchmarks.md": ["takes minutes, and needs every contender"],
    "docs/command-line.md": ["needs bash, zsh and fish; a test runs the scripts in them"],
    "docs/deploying.md": ["needs a Docker engine", "needs a cluster", "needs a cluster", "needs systemd"],
    "docs/engines.md": [
        "needs a bucket and Ray; make test-engines calls the same",
        "needs a bucket and Ray; make test-engines calls the same",
        "needs a bucket and Spark; make test-engines calls the same",
        "needs Triton",
    ],
    "docs/gpu.md": ["needs a GPU", "needs a GPU"],
    "docs/hub.md": ["needs a hub; tests/runtime/hub calls the same", "needs a hub"],
    "docs/scoring.md": ["needs a bucket", "needs a cluster"],
}
"""The blocks that are not run, by page and in order. A new one needs a reason, here and above the block."""

LANGUAGES = {"sh", "python", "yaml", "text", ""}
EVERY = [block for page in PAGES for block in blocks(page)]
RUNNING = {block.page: [b for b in EVERY if b.page == block.page and not b.reason] for block in EVERY}
SERVER = re.compile(r"http://(127\.0\.0\.1|localhost):8\d{3}")


@pytest.mark.filterwarnings("default")  # warnings of libraries, in a process that runs a whole page
@pytest.mark.parametrize("page", sorted(page for page, running in RUNNING.items() if running))
def test_page_code_blocks_run(page: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(files / "packages")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(files / "packages"), toy.environment()["PYTHONPATH"]]))
    _run_page(page, Path(shutil.copytree(files, tmp_path / "here")), monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("default")
def test_tutorial_runs_with_a_real_encoder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", toy.environment()["PYTHONPATH"])
    here = Path(shutil.copytree(files, tmp_path / "here"))
    shutil.copytree(ROOT / "examples", here / "examples", dirs_exist_ok=True)
    _run_page("docs/tutorial.md", here, monkeypatch)
    labels = Classifier.load(here / "bundle").predict("Great fabric, but it took two weeks.")
    assert {"product quality", "delivery"} & set(labels[0])


def _run_page(page: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks of a page in order in a folder."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{here / 'programs'}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    names: dict[str, object] = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:
        url = ""
        for block in RUNNING[page]:
            if SERVER.search(block.code) and not url:
                url = stack.enter_context(serving(here / "bundle"))
            code = SERVER.sub(url, block.code)
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + code, str(ROOT / page), "exec"), names)
            elif block.language == "sh":
                for line in block.commands:
                    _run(SERVER.sub(url, line), block.place)


def _run(line: str, place: str) -> None:
    """Run a line of a shell block: `manylabel` in this process, which has loaded PyTorch, and anything else in bash."""
    if line.startswith(("pip install", "make ", "manylabel serve")):  # a page with requests has a running server
        _check_line(line)
    elif line.startswith("manylabel ") and not re.search(r"[$|&;<>]", line):
        words = shlex.split(line)[1:]
        for option, value in pairwise(words):
            if option == "--output":  # written before, for other pages
                shutil.rmtree(value, ignore_errors=True)
        result = CliRunner().invoke(main, words)
        # A tiny model's int8 may exceed its budget; then the bundle is written without it.
        allowed = {0, BudgetExceeded.exit_code} if words[0] == "export" else {0}
        assert result.exit_code in allowed, f"{place}: {line}\n{result.output}{result.exception or ''}"
    else:
        completed = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, f"{place}: {line}\n{completed.stdout}{completed.stderr}"


def _check_line(line: str) -> None:
    """Check that the extras, targets, commands and options of a line exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for names in re.findall(r"manylabel\[([\w,-]+)\]", line):
        assert set(names.split(",")) <= extras.keys(), line
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][\w-]*)", line):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), line
    check_command_lines(line)


@pytest.mark.parametrize("block", [b for b in EVERY if b.reason], ids=lambda block: block.place)
def test_skipped_blocks_name_existing_things(block: Block) -> None:
    if block.language == "python":
        check_python(block)
    elif block.language == "yaml":
        assert list(yaml.safe_load_all(block.code))
        check_command_lines(block.code)
    else:
        subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
        for line in block.commands:
            _check_line(line)


def test_skipped_blocks_are_listed() -> None:
    reasons_by_page = {
        page.relative_to(ROOT).as_posix(): [b.reason for b in blocks(page) if b.reason] for page in PAGES
    }
    assert {page: reasons for page, reasons in reasons_by_page.items() if reasons} == NOT_RUN


def test_blocks_declare_their_language() -> None:
    assert {block.place: block.language for block in EVERY if block.language not in LANGUAGES} == {}
    shown = [block for block in EVERY if block.language in {"text", ""}]
    assert [b.place for b in shown if re.search(r"^(\$|manylabel|pip|python) ", b.code, re.MULTILINE)] == []
    assert len([block for block in EVERY if block.language in {"sh", "python"}]) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_prose_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`]+)`", prose):
        check_command_lines(code.replace("\n", " "))
