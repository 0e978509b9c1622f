"""Every committed page of an experiment is drawn from its committed result, and every experiment explains itself."""

import importlib
import json
from pathlib import Path

import pytest
from tests.conftest import ROOT

from experiments.common.result_io import PAGE, RESULT, RenderReadme, render_page

EXPERIMENTS = ROOT / "benchmarks" / "experiments"
RESULTS = sorted(EXPERIMENTS.rglob(RESULT))
FOLDERS = sorted(path.parent for path in EXPERIMENTS.glob("*/run.py"))


def find_renderer(name: str) -> RenderReadme:
    module = importlib.import_module(f"experiments.{name}.run")
    renderer: RenderReadme = getattr(module, "COMPARISON", module).render_readme
    return renderer


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: str(path.parent.relative_to(EXPERIMENTS)))
def test_committed_page_is_drawn_from_the_committed_result(path: Path) -> None:
    name = path.relative_to(EXPERIMENTS).parts[0]
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["commit"]
    assert (path.parent / PAGE).read_text(encoding="utf-8") == render_page(result, find_renderer(name))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_experiment_has_a_page_and_a_question(folder: Path) -> None:
    assert (folder / PAGE).exists()
    question = (folder / "run.py").read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
    assert "?" in question


def test_experiments_are_listed_in_the_readme() -> None:
    page = (ROOT / "benchmarks" / PAGE).read_text(encoding="utf-8")
    assert [folder.name for folder in FOLDERS if f"experiments/{folder.name}" not in page] == []
