"""The single-file model in Java, with ONNX Runtime 1.17 from Anserini's jar (`make test-java`)."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.helpers import toy
from tests.interop.conftest import make_portable

from manylabel import Classifier
from manylabel_export.graph.tokenizer.build import FILE

HERE = Path(__file__).parent
JAR = HERE.parent.parent / "build" / "interop" / "onnxruntime.jar"
Java = Callable[[Path, Sequence[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the toy model as an fp32 single file: the operators of int8 need ONNX Runtime 1.18."""
    return make_portable(tmp_path_factory.mktemp("java"), ["fp32"])


@pytest.fixture(scope="module")
def java() -> Java:
    """Return a function that runs Text.java with a model and texts."""
    if not shutil.which("java") or not JAR.exists():
        pytest.skip(f"needs Java 17 and {JAR}: make test-java")

    def run(path: Path, texts: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["java", "-cp", JAR, HERE / "Text.java", path],
            input="".join(f"{text}\0" for text in texts),
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    return run


def test_single_file_gives_equal_labels_in_java(fp32: Path, java: Java) -> None:
    odd = ["Héllo, WÖRLD! äöü ☂", "", "[SEP] [CLS]", "the parcel was late " * 40, "漢字\u200b\u0301"]
    texts = [*toy.TEXTS[:20], *odd]
    done = java(fp32 / FILE, texts)
    assert done.returncode == 0, done.stderr
    found = [[label for label in line.split("\t") if label] for line in done.stdout.splitlines()]
    assert found == Classifier.load(fp32, device="cpu", precision="fp32").predict(texts)


def test_java_binding_rejects_emoji(fp32: Path, java: Java) -> None:
    """ONNX Runtime's Java binding rejects every character beyond U+FFFF; docs/exporting.md has the workaround."""
    done = java(fp32 / FILE, ["late 🎉"])
    assert done.returncode == 1
    assert "Input string contains invalid utf8 chars" in done.stderr
