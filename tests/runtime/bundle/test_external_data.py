"""Weights in a separate file are read from the bundle, and from nowhere else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.conftest import Python, Resign

from manylabel import BundleError, Classifier

WEIGHTS = np.array([-1000, 1000, -1000, 1000], dtype=np.float32).tobytes()
"""A graph accepts them from any place: if they are rejected, it is because of the place."""

LOAD = """
import sys
from manylabel import BundleError, Classifier

try:
    print(Classifier.load(sys.argv[1], device="cpu", precision="fp32").predict_proba("late").tolist())
except BundleError as exc:
    print(exc)
"""


def with_graph(bundle: Path, content: bytes) -> Path:
    (bundle / "model.onnx").write_bytes(content)
    return bundle


def list_file(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["files"].update({name: {"bytes": len(WEIGHTS), "sha256": "0" * 64}})


def test_external_weights_in_the_bundle_are_read(own_bundle: Path, graph: Any, resign: Resign) -> None:
    with_graph(own_bundle, graph("Sigmoid", columns=4, beside="model.onnx_data"))
    (own_bundle / "model.onnx_data").write_bytes(WEIGHTS)
    resign(own_bundle, list_file("model.onnx_data"))
    resign(own_bundle)
    found = Classifier.load(own_bundle, device="cpu", precision="fp32").predict_proba("late")
    assert found.tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("place", ["absolute", "beside", "from the process", "from the copy", "within"])
def test_graph_with_outside_file_is_rejected_unopened(
    own_bundle: Path, graph: Any, resign: Resign, python: Python, tmp_path: Path, kind: str, place: str
) -> None:
    """A file with the right bytes would be accepted; opening a pipe without a writer would block."""
    outside = tmp_path / "weights"
    named = {
        "absolute": str(outside),
        "beside": "../weights",
        "from the process": os.path.relpath(outside),
        "from the copy": f"../../..{outside}",  # the copy is loaded from /proc/self/fd
        "within": "model.onnx_data",  # beside the graph, but not in the manifest
    }[place]
    resign(with_graph(own_bundle, graph("Sigmoid", columns=4, beside=named)))
    if kind == "file":
        outside.write_bytes(WEIGHTS)
    else:
        os.mkfifo(outside)
    done = python(LOAD, own_bundle)
    assert done.returncode == 0, done.stderr
    assert "does not load the graph" in done.stdout
    assert "not found from the table" in done.stdout


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_link_to_outside_weights_is_rejected(
    own_bundle: Path, graph: Any, resign: Resign, tmp_path: Path, kind: str
) -> None:
    outside = tmp_path / "weights"
    resign(with_graph(own_bundle, graph("Sigmoid", columns=4, beside="model.onnx_data")), list_file("model.onnx_data"))
    if kind == "file":
        outside.write_bytes(WEIGHTS)
    else:
        os.mkfifo(outside)
    (own_bundle / "model.onnx_data").symlink_to(outside)
    with pytest.raises(BundleError, match=r"model\.onnx_data is a link"):
        Classifier.load(own_bundle, device="cpu", precision="fp32")
