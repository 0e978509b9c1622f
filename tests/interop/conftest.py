"""A bundle for other people's libraries, and Node with theirs."""

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
    """What everybody is asked."""
    return [*toy.TEXTS[:20], "Héllo, WÖRLD! äöü 🎉", "die Rechnung war zu teuer und das Paket kaputt?", "ok"]


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in fp32 and as one file, with thresholds of its own; not to be changed."""
    return make_portable(tmp_path_factory.mktemp("portable"), ["fp32", "int8"])


def make_portable(folder: Path, precisions: Sequence[str]) -> Path:
    """A bundle of the tiny model in a folder, with a file that takes text."""
    targets = np.random.default_rng(0).integers(0, 2, (len(toy.TEXTS), len(toy.LABELS)))
    validation = Dataset.from_matrix(toy.TEXTS, targets, toy.LABELS)
    checkpoint = toy.write_checkpoint(folder / "checkpoint")
    return export(checkpoint, folder / "bundle", validation=validation, precisions=precisions, single_file=True).path


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs one of the scripts beside this file with texts; gives what it prints."""
    if not shutil.which("node") or not (PACKAGES / "node_modules").is_dir():
        pytest.skip(f"needs Node and its packages in {PACKAGES}: make test-interop")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(PACKAGES / "node_modules")  # modules are looked for beside a script

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
