"""The types of the public names, as a user's own type checker sees them, from a folder that knows nothing of this."""

import ast
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import manylabel
from manylabel.explain.occlusion import Explanation, Passage, Word

HERE = Path(__file__).parent
PYRIGHT = HERE.parent.parent / "build" / "interop" / "node_modules" / ".bin" / "pyright"
PUBLIC = [*(getattr(manylabel, name) for name in manylabel.__all__), Explanation, Passage, Word]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A folder with what users write, and what they get wrong."""
    for name in ("sample.py", "mistakes.py"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def complaints(command: list[str], folder: Path) -> dict[str, set[int]]:
    """The lines in which a type checker finds an error, by file."""
    without = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=folder, env=without, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr  # the mistakes are found
    found: dict[str, set[int]] = {}
    for name, line in re.findall(r"(\w+\.py):(\d+)[:\d]* ?[-:]? ?error", done.stdout):
        found.setdefault(name, set()).add(int(line))
    return found


def mistakes() -> set[int]:
    """The lines that say what is wrong with them."""
    lines = (HERE / "mistakes.py").read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if "  # " in line}


def test_mypy_strict_agrees_with_the_documented_types(users: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "sample.py", "mistakes.py"]
    assert complaints(command, users) == {"mistakes.py": mistakes()}


@pytest.mark.skipif(not PYRIGHT.exists(), reason="pyright comes with make test-interop")
def test_pyright_agrees_with_the_documented_types(users: Path) -> None:
    command = [str(PYRIGHT), "--pythonpath", sys.executable, "sample.py", "mistakes.py"]
    assert complaints(command, users) == {"mistakes.py": mistakes()}


@pytest.mark.parametrize("root", ["manylabel", "manylabel_export", "manylabel_bench"])
def test_every_package_has_py_typed(root: str) -> None:
    spec = importlib.util.find_spec(root)
    assert spec
    assert spec.origin
    assert Path(spec.origin).with_name("py.typed").is_file()


def signatures(public: type) -> Iterator[tuple[str, ast.expr | None]]:
    """Every annotation of a class' public methods and attributes, by the name of what it is of."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(public))).body
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation
        if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield from (
                (f"{node.name}({each.arg})", each.annotation) for each in given if each.arg not in ("self", "cls")
            )
            yield f"{node.name}()", node.returns


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_public_signatures_avoid_any(public: type) -> None:
    for name, annotation in signatures(public):
        assert annotation is not None, name
        assert "Any" not in {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}, name
