"""One trained run and its bundle for all export tests."""

from pathlib import Path

import pytest
from tests.helpers import toy

from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a pooler or a head; read-only."""
    return toy.write_encoder(tmp_path_factory.mktemp("toy") / "encoder", pooler=False)


@pytest.fixture(scope="session")
def run(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the toy task; read-only."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train(toy.dataset(720), folder, model=str(encoder), config=TrainConfig(**toy.RECIPE))
    return folder


@pytest.fixture(scope="session")
def run_bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a bundle in all precisions; read-only."""
    from manylabel_export.pipeline import export  # here, so that tests of training do not depend on the export

    return export(run, tmp_path_factory.mktemp("bundle") / "bundle").path


@pytest.fixture(scope="session")
def elsewhere(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label checkpoint from a user's own Trainer script; read-only."""
    return toy.train_elsewhere(tmp_path_factory.mktemp("elsewhere") / "checkpoint", encoder, toy.examples(800, seed=3))


@pytest.fixture(scope="session")
def multiclass(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was trained for exactly one label per text; read-only."""
    folder = tmp_path_factory.mktemp("multiclass") / "checkpoint"
    return toy.train_elsewhere(folder, encoder, toy.examples(800, seed=4, single=True), single=True)
