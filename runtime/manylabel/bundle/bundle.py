"""The bundle on disk: a closed-world folder that one manifest describes.

`bundle.json` lists every other file with its size and SHA-256. A file that is missing, extra, changed, a link or a
special file is refused, and the bytes that were hashed are the bytes that are loaded.

Knows nothing of ONNX Runtime.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from manylabel.bundle.manifest import (
    ANEW,
    FORMAT_VERSION,
    MANIFEST,
    TOKENIZER,
    FileRecord,
    Manifest,
    Probe,
    Rescue,
    SpecialTokens,
    Variant,
    read_manifest,
)
from manylabel.errors import BundleError, InputError
from manylabel.hub.download import fetch
from manylabel.hub.hub_ref import Reference
from manylabel.system.did_you_mean import near_path
from manylabel.system.sealed_file import sealed

__all__ = [
    "CARD",
    "FORMAT_VERSION",
    "FP32",
    "MANIFEST",
    "TOKENIZER",
    "WEIGHTS",
    "Bundle",
    "FileRecord",
    "Manifest",
    "Probe",
    "Rescue",
    "SpecialTokens",
    "Variant",
    "record_files",
]

FP32 = "model.onnx"
WEIGHTS = "_data"
"""Behind a graph's name: the file of its weights, where they are too large for the graph (beyond 2 GiB)."""

CARD = "README.md"

_MAKE = " Make one with manylabel export."


@dataclass(frozen=True)
class Bundle:
    """A bundle whose folder was found to hold just what its manifest lists.

    Attributes:
        path: The folder.
        manifest: What it says.
        digest: The manifest's digest, which names the bundle: it covers every file's.
        reference: Its commit on the hub; None for a folder that was named as one.
    """

    path: Path
    manifest: Manifest
    digest: str
    reference: Reference | None = None

    @classmethod
    def open(cls, path: Path | str, *, digest: str | None = None) -> "Bundle":
        """Read the manifest and hold the folder against it: names, sizes and kinds of files, not yet their content.

        Args:
            path: The bundle's folder, or `hf://USER/MODEL@REVISION`, which becomes one in the hub's cache.
            digest: The bundle that is meant; another is refused.

        Raises:
            InputError: There is no folder at `path`.
            BundleError: It is no bundle, not as its manifest says, or another than was meant.
            BundleTooNew: A later version wrote it.
            HubError: The hub has it not, gives it not, or cannot be reached.
        """
        if reference := Reference.of(path):
            path, reference = fetch(reference)
        path = Path(path)
        if not os.path.isdir(path):  # Path.is_dir raises where a name is too long to exist
            raise InputError(f"there is no bundle at {path}: no such folder.{near_path(path) or _MAKE}")
        if not os.path.lexists(path / MANIFEST):
            raise BundleError(f"{path} is no bundle: it has no {MANIFEST}. Make one with manylabel export.")
        manifest, found = read_manifest(_read_regular(path / MANIFEST), where=str(path / MANIFEST))
        if digest not in (None, found):
            raise BundleError(
                f"{reference or path} is the bundle {found}, and {digest} was asked for. "
                "Find out who changed it before you name the other digest."
            )
        _check_folder(path, manifest)
        return cls(path, manifest, found, reference)

    @property
    def origin(self) -> str:
        """Where another process finds this very bundle: its commit on the hub, or its folder's absolute path."""
        return str(self.reference or self.path.absolute())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in column order."""
        return self.manifest.labels

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The graphs by precision, the most exact first."""
        return {variant.precision: variant for variant in self.manifest.variants}

    def weights_of(self, variant: Variant) -> tuple[str, ...]:
        """The file beside a variant's graph that has its weights, or none."""
        name = variant.file + WEIGHTS
        return (name,) if name in self.manifest.files else ()

    def read(self, name: str) -> bytes:
        """A file's bytes, hashed as they were read.

        Raises:
            InputError: The bundle has no such file.
            BundleError: They are not the bytes that were bundled.
        """
        self._check_listed(name)
        content = _read_regular(self.path / name)
        self._check_content(name, len(content), hashlib.sha256(content).hexdigest())
        return content

    @contextmanager
    def loadable(self, name: str) -> Iterator[bytes | str]:
        """A file's content for a library that loads it: a path to a copy that cannot be changed, hashed as it was made.

        Where the system has no such copies, the bytes themselves, as `read` gives them.

        Raises:
            InputError: The bundle has no such file.
            BundleError: It is not what was bundled.
        """
        self._check_listed(name)
        with ExitStack() as stack:
            descriptor = stack.enter_context(_open_regular(self.path / name))
            try:
                copy = stack.enter_context(sealed(descriptor))
            except OSError:
                content: bytes | str = self.read(name)
            else:
                self._check_content(name, copy.bytes, copy.sha256)
                content = copy.path
            yield content

    def verify(self) -> None:
        """Hash every file.

        Raises:
            BundleError: A file was changed.
        """
        for name in self.manifest.files:
            self.read(name)

    def _check_listed(self, name: str) -> None:
        if name not in self.manifest.files:
            raise InputError(f"{self.path} has no file {name!r}; it has {', '.join(self.manifest.files)}.")

    def _check_content(self, name: str, size: int, sha256: str) -> None:
        record = self.manifest.files[name]
        if size != record.bytes or sha256 != record.sha256:
            raise BundleError(
                f"{self.path / name} was changed after the bundle was made: its SHA-256 is not the manifest's. {ANEW}"
            )


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Sizes and digests of all files in a folder that is about to become a bundle."""
    return {
        path.name: FileRecord(path.stat().st_size, _digest(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_folder(path: Path, manifest: Manifest) -> None:
    """Hold the folder's names, kinds and sizes of files against the manifest."""
    try:
        with os.scandir(path) as entries:
            present = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    missing = sorted(manifest.files.keys() - present.keys())
    extra = sorted(present.keys() - manifest.files.keys() - {MANIFEST})
    if missing:
        raise BundleError(f"{path} lacks {', '.join(missing)}. {ANEW}")
    if extra:
        raise BundleError(
            f"{path} holds {', '.join(extra)}, which the manifest does not list. Remove what is not the bundle's."
        )
    for name, record in manifest.files.items():
        _check_kind(path / name, present[name])
        if present[name].st_size != record.bytes:
            found = present[name].st_size
            raise BundleError(f"{path / name} has {found:,} bytes and should have {record.bytes:,}. {ANEW}")


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise BundleError(f"{path} is a link; a bundle holds the files themselves. Copy the bundle with cp -rL.")
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path} is a folder or a special file; a bundle holds regular files only. {ANEW}")
    if status.st_nlink > 1:
        raise BundleError(
            f"{path} is a hard link, through which it can be changed from elsewhere. Copy the bundle with cp -r."
        )


def _read_regular(path: Path) -> bytes:
    """A regular file's bytes."""
    with _open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        return file.read()


@contextmanager
def _open_regular(path: Path) -> Iterator[int]:
    """A regular file, open for reading; never follows a link, never waits on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ELOOP:  # what O_NOFOLLOW gives for a link
            _check_kind(path, os.lstat(path))
        raise _unreadable(path, exc) from exc
    try:
        _check_kind(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _unreadable(path: Path, exc: OSError) -> BundleError:
    return BundleError(f"{path} cannot be read: {exc.strerror}. A bundle holds regular files that its user may read.")
