"""Examples in docstrings run, and every public class and function of docs/api.md has one.

They run in the folder of the documentation's code blocks, which holds `bundle`, `run`, `reviews.csv`, `texts.csv`
and so on: an example loads `Classifier.load("bundle")` as a page does.
"""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.helpers import toy
from tests.helpers.blocks import PAGES, ROOT, blocks

import manylabel
import manylabel_bench
import manylabel_export
import manylabel_train

NEEDS_AN_ENGINE = re.compile(r"manylabel\.engines\.(ray|spark|triton\.model)\b")
"""Modules that import what the development environment lacks; `make test-engines` runs them."""


def _modules() -> Iterator[str]:
    for package in (manylabel, manylabel_train, manylabel_export, manylabel_bench):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not NEEDS_AN_ENGINE.match(found.name) and not found.name.endswith("__main__"):
                yield found.name


WITH_EXAMPLES = [name for name in _modules() if ">>> " in Path(importlib.util.find_spec(name).origin).read_text()]  # type: ignore[union-attr,arg-type]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples_run(
    name: str, files: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("examples") / "here"
    shutil.copytree(files, here)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(files / "packages")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(files / "packages"), toy.environment()["PYTHONPATH"]]))
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(module, optionflags=flags, report=False)
    assert failed == 0
    assert tried > 0


def _public() -> Iterator[tuple[str, object]]:
    """Yield the classes and functions of docs/api.md with their full names."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for directive, name in re.findall(r"^\.\. auto(\w+):: ([\w.]+)$", page, re.MULTILINE):
        if NEEDS_AN_ENGINE.match(name):
            continue
        if directive == "module":
            module = importlib.import_module(name)
            if module is not manylabel:
                yield from _members(module)
        else:
            owner, _, last = name.rpartition(".")
            yield name, getattr(importlib.import_module(owner), last)


def _members(module: ModuleType) -> Iterator[tuple[str, object]]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    for name in names:
        member = getattr(module, name)
        own = getattr(member, "__module__", "").startswith(module.__name__)
        if own and (inspect.isclass(member) or inspect.isfunction(member)):
            yield f"{module.__name__}.{name}", member


PUBLIC = dict(_public())
ON_PAGES = "\n".join(block.code for page in PAGES for block in blocks(page) if block.language == "python")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_an_example(name: str) -> None:
    member = PUBLIC[name]
    if isinstance(member, type) and issubclass(member, Exception):
        return  # an error is an example of itself: docs/command-line.md lists them
    short = name.rpartition(".")[2]
    assert ">>> " in (inspect.getdoc(member) or "") or re.search(rf"\b{short}\b", ON_PAGES), (
        f"{name} has neither a doctest nor a place in a page's Python block. Add an example to its docstring."
    )


def test_the_public_surface_is_not_empty() -> None:
    assert len(PUBLIC) > 30
    assert "manylabel.Classifier" in PUBLIC
    assert sys.modules["manylabel"].__all__
