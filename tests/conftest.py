"""One tiny bundle for all tests, and where the real data lies."""

import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

pytest_plugins = ["tests.helpers.training_fixtures"] if importlib.util.find_spec("torch") else []

DATA = Path(os.environ.get("MANYLABEL_DATA", ROOT.parent / "shared" / "data"))
PREBUILT = ROOT / "build" / "tiny-bundle"


@pytest.fixture(scope="session", autouse=True)
def _handle_sigint() -> None:
    """Handle SIGINT, which the tests send: background jobs of a shell, and all their children, inherit it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny model; read-only. Without PyTorch it is a bundle that `make` has built beforehand."""
    if importlib.util.find_spec("torch"):
        from tests.helpers.toy import write_bundle

        folder = tmp_path_factory.mktemp("tiny")
        return write_bundle(folder / "bundle", folder / "checkpoint")
    if not PREBUILT.exists():
        pytest.fail(
            f"{PREBUILT} is missing. Build it where PyTorch is installed: python tests/helpers/toy.py {PREBUILT}"
        )
    return PREBUILT


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets."""
    if not DATA.is_dir():
        pytest.skip(f"needs real data in {DATA} (MANYLABEL_DATA)")
    return DATA
