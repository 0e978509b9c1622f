"""A bundle for third-party runtimes, and a runner for Node scripts."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import toy

from manylabel_export.pipeline import export
from manylabel_train.data.dataset import Dataset

HERE = Path(__file__).parent
PACKAGES = HERE.parent.parent / "build" / "interop"


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Return the texts that every runtime has to label."""
    return [*toy.TEXTS[:20], "Héllo, WÖRLD! äöü 🎉", "die Rechnung war zu teuer und das Paket kaputt?", "ok"]


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the toy model in fp32 and int8 with a single-file model; read-only."""
    return make_portable(tmp_path_factory.mktemp("portable"), ["fp32", "int8"])


def make_portable(folder: Path, precisions: Sequence[str]) -> Path:
    """Export the toy model with tuned thresholds and a single-file model."""
    targets = np.random.default_rng(0).integers(0, 2, (len(toy.TEXTS), len(toy.LABELS)))
    validation = Dataset.from_matrix(toy.TEXTS, targets, toy.LABELS)
    checkpoint = toy.write_checkpoint(folder / "checkpoint")
    return export(checkpoint, folder / "bundle", validation=validation, precisions=precisions, single_file=True).path


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that runs a script of this folder in Node and returns the JSON that it prints."""
    if not shutil.which("node") or not (PACKAGES / "node_modules").is_dir():
        pytest.skip(f"needs Node and its packages in {PACKAGES}: make test-interop")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(PACKAGES / "node_modules")  # Node looks for modules beside the script

    def run(script: str, path: Path, texts: Sequence[str]) -> Any:
        shutil.copy(HERE / script, folder)
        done = subprocess.run(
            ["node", folder / script, path],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
