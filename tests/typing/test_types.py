"""The types of the public names, as a user's type checker sees them, in a folder outside the repository."""

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
def user_code(tmp_path: Path) -> Path:
    """A folder with typical code of users, and with typical mistakes."""
    for name in ("sample.py", "mistakes.py"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def find_error_lines(command: list[str], folder: Path) -> dict[str, set[int]]:
    """Return the lines in which a type checker finds an error, by file."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    completed = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert completed.returncode == 1, completed.stdout + completed.stderr  # the mistakes are errors
    lines: dict[str, set[int]] = {}
    for name, line in re.findall(r"(\w+\.py):(\d+)[:\d]* ?[-:]? ?error", completed.stdout):
        lines.setdefault(name, set()).add(int(line))
    return lines


def mistake_lines() -> set[int]:
    """Return the lines with a comment, which contain a mistake."""
    lines = (HERE / "mistakes.py").read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if "  # " in line}


def test_mypy_strict_agrees_with_the_documented_types(user_code: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "sample.py", "mistakes.py"]
    assert find_error_lines(command, user_code) == {"mistakes.py": mistake_lines()}


@pytest.mark.skipif(not PYRIGHT.exists(), reason="pyright comes with make test-interop")
def test_pyright_agrees_with_the_documented_types(user_code: Path) -> None:
    command = [str(PYRIGHT), "--pythonpath", sys.executable, "sample.py", "mistakes.py"]
    assert find_error_lines(command, user_code) == {"mistakes.py": mistake_lines()}


@pytest.mark.parametrize("root", ["manylabel", "manylabel_train", "manylabel_export", "manylabel_bench"])
def test_every_package_has_py_typed(root: str) -> None:
    spec = importlib.util.find_spec(root)
    assert spec
    assert spec.origin
    assert Path(spec.origin).with_name("py.typed").is_file()


def signatures(public: type) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield every annotation of a class's public methods and attributes, with the name of its owner."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(public))).body
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation
        if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield from (
                (f"{node.name}({each.arg})", each.annotation) for each in parameters if each.arg not in ("self", "cls")
            )
            yield f"{node.name}()", node.returns


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_public_signatures_avoid_any(public: type) -> None:
    for name, annotation in signatures(public):
        assert annotation is not None, name
        assert "Any" not in {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}, name
