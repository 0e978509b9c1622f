"""A sealed copy is what was hashed, and cannot be changed."""

import hashlib
import os
from pathlib import Path

import pytest
from tests.runtime.conftest import Python

from manylabel import Bundle, BundleError, Classifier
from manylabel.system.sealed_file import sealed_copy

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")


def test_sealed_copy_has_bytes_and_digest(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)  # more than a chunk, and not a multiple of one
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file, sealed_copy(file.fileno()) as copy:
        assert Path(copy.path).read_bytes() == content
        assert (copy.bytes, copy.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_sealed_copy_cannot_be_changed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"as it was")
    with (tmp_path / "file").open("rb") as file, sealed_copy(file.fileno()) as copy:
        (tmp_path / "file").write_bytes(b"something else")
        with pytest.raises(PermissionError), open(copy.path, "r+b", buffering=0) as writer:
            writer.write(b"b")
        with pytest.raises(PermissionError):
            os.truncate(copy.path, 0)
        assert Path(copy.path).read_bytes() == b"as it was"


def test_nothing_is_left_open(own_bundle: Path) -> None:
    def listed() -> list[str]:
        files = [Path(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
        # The descriptor of the listing itself is closed by now, and no longer a link.
        links = [str(each.readlink()) for each in files if each.is_symlink()]
        return [link for link in links if "memfd:manylabel" in link]

    Classifier.load(own_bundle, device="cpu")
    assert listed() == []
    model = own_bundle / "model.onnx"
    model.write_bytes(bytes([model.read_bytes()[0] ^ 1]) + model.read_bytes()[1:])
    with pytest.raises(BundleError, match="was changed"), Bundle.open(own_bundle).loadable("model.onnx"):
        pytest.fail("a changed file was given out")
    assert listed() == []


def test_bytes_are_loaded_without_memfd(bundle: Path, python: Python) -> None:
    """No file may grow, not even in memory. The process has a pipe as its output."""
    done = python(
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from manylabel import Bundle, Classifier\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "folder = Path(sys.argv[1])\n"
        "with Bundle.open(folder).loadable('model.onnx') as content:\n"
        "    assert content == (folder / 'model.onnx').read_bytes()\n"
        "print(Classifier.load(folder, device='cpu').predict_proba('the parcel was late').shape)\n",
        bundle,
    )
    assert done.stdout == "(1, 4)\n", done.stderr


def test_file_size_limit_is_not_reported_as_damage(bundle: Path, python: Python) -> None:
    """The limit applies to such memory, too: part of the graph would fit."""
    done = python(
        "import resource, sys\n"
        "from manylabel import Classifier\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "print(Classifier.load(sys.argv[1], device='cpu').predict('late') is not None)",
        bundle,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
