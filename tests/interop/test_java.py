"""The file that takes text, run from Java: by ONNX Runtime 1.17, which Anserini's jar holds (`make test-java`)."""

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
    """A bundle of the tiny model with a file that takes text in fp32: int8's operators came with 1.18."""
    return make_portable(tmp_path_factory.mktemp("java"), ["fp32"])


@pytest.fixture(scope="module")
def java() -> Java:
    """Runs Text.java on a file with texts."""
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


def test_the_file_that_takes_text_runs_in_java(fp32: Path, java: Java) -> None:
    odd = ["Héllo, WÖRLD! äöü ☂", "", "[SEP] [CLS]", "the parcel was late " * 40, "漢字\u200b\u0301"]
    texts = [*toy.TEXTS[:20], *odd]
    done = java(fp32 / FILE, texts)
    assert done.returncode == 0, done.stderr
    found = [[label for label in line.split("\t") if label] for line in done.stdout.splitlines()]
    assert found == Classifier.load(fp32, device="cpu", precision="fp32").predict(texts)


def test_its_binding_does_not_hand_over_an_emoji(fp32: Path, java: Java) -> None:
    """Nor any character beyond U+FFFF: docs/exporting.md says so, and what to do."""
    done = java(fp32 / FILE, ["late 🎉"])
    assert done.returncode == 1
    assert "Input string contains invalid utf8 chars" in done.stderr
