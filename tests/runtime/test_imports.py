"""The public names, and what importing them loads."""

import inspect
import re
from pathlib import Path

import pytest
from tests.runtime.conftest import Python

import manylabel
from manylabel import errors

HEAVY = ("torch", "transformers", "optimum", "sklearn", "onnx", "manylabel_export", "manylabel_bench")


def test_public_names_equal_all() -> None:
    visible = {
        name for name in dir(manylabel) if not name.startswith("_") and not inspect.ismodule(getattr(manylabel, name))
    }
    assert visible == set(manylabel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        manylabel.Clasifier  # noqa: B018


def test_every_error_is_public() -> None:
    ours = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert ours <= set(manylabel.__all__)


def test_error_tree_drawing_is_correct() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for indent, name in re.findall(r"^([│├└─ ]*)(\w+)", (errors.__doc__ or "").split("```")[1], re.MULTILINE):
        del above[len(indent) // 4 :]
        drawn[name] = above[-1] if above else "Exception"
        above.append(name)
    actual = {name: (value.__bases__[0]).__name__ for name, value in vars(errors).items() if inspect.isclass(value)}
    assert drawn == actual


def test_prediction_imports_no_pytorch(bundle: Path, python: Python) -> None:
    """Neither PyTorch nor the other packages, and onnxruntime only when it is needed."""
    done = python(
        "import sys, manylabel\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "print(manylabel.Classifier.load(sys.argv[1]).predict(['the parcel was late', 'good']))\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))",
        bundle,
    )
    assert done.returncode == 0, done.stderr
    loaded = eval(done.stdout.splitlines()[1])
    assert {"onnxruntime", "tokenizers", "numpy"} <= set(loaded)
    assert not set(loaded) & set(HEAVY)


def test_command_line_imports_no_pytorch(bundle: Path, python: Python) -> None:
    done = python(
        "import sys\n"
        "from manylabel.cli.main import main\n"
        "main(['predict', sys.argv[1], 'late'], standalone_mode=False)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)",
        bundle,
    )
    assert done.returncode == 0, done.stderr
    assert not set(eval(done.stderr)) & set(HEAVY)


def test_nothing_under_runtime_imports_upward() -> None:
    sources = Path(manylabel.__file__).parent.rglob("*.py")
    heavy = re.compile(rf"^\s*(?:import|from) (?:{'|'.join(HEAVY)})\b", re.MULTILINE)
    assert not [path.name for path in sources if heavy.search(path.read_text(encoding="utf-8"))]


def test_tokenizers_and_onnxruntime_have_one_importer() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in Path(manylabel.__file__).parent.rglob("*.py")}
    for package, home in (("tokenizers", "tokenizer.py"), ("onnxruntime", "ort_loader.py")):
        assert [
            name for name, text in sources.items() if re.search(rf"^\s*(?:import|from) {package}\b", text, re.M)
        ] == [home]
