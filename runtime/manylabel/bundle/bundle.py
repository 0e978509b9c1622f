"""An opened bundle: a folder that contains exactly the files that its manifest lists.

`bundle.json` lists every other file with its size and SHA-256. A missing, extra or changed file, a link or a special
file is rejected, and the bytes that were hashed are the bytes that are loaded.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from manylabel.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    RESTORE,
    TOKENIZER,
    FileRecord,
    Manifest,
    MixedPrecision,
    Probe,
    SpecialTokens,
    Variant,
    read_manifest,
)
from manylabel.errors import BundleError, InputError
from manylabel.system.did_you_mean import suggest_path
from manylabel.system.sealed_file import sealed_copy

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
    "MixedPrecision",
    "Probe",
    "SpecialTokens",
    "Variant",
    "record_files",
]

FP32 = "model.onnx"
WEIGHTS = "_data"
"""Suffix of the file that holds a graph's weights if they do not fit into the graph's own file (above 2 GiB)."""

CARD = "README.md"

_EXPORT = " Make one with manylabel export."


@dataclass(frozen=True)
class Bundle:
    """A bundle folder that contains exactly the files that its manifest lists.

    Attributes:
        path: The folder.
        manifest: The content of `bundle.json`.
        digest: The manifest's digest, which identifies the bundle: it covers the digest of every file.
        reference: For a bundle that was downloaded from the Hub, its commit, `hf://USER/MODEL@COMMIT`; else None.

    Example:
        >>> from manylabel import Bundle
        >>> bundle = Bundle.open("bundle")
        >>> bundle.labels
        ('billing', 'delivery', 'price', 'user experience')
        >>> bundle.variants["int8"].file
        'model_int8.onnx'
    """

    path: Path
    manifest: Manifest
    digest: str
    reference: str | None = None

    @classmethod
    def open(cls, path: Path | str, *, digest: str | None = None, reference: str | None = None) -> "Bundle":
        """Open a bundle folder and compare it with its manifest: names, sizes and kinds of files, not their content.

        `manylabel.hub.resolve_bundle_path` turns a Hub reference into a folder.

        Args:
            path: The folder.
            digest: Accept only the bundle with this digest.
            reference: Where the folder was downloaded from.

        Raises:
            InputError: `path` is not a folder.
            BundleError: The folder is not a bundle, differs from its manifest, or has another digest.
            BundleTooNew: The bundle was written by a newer version of manylabel.

        Example:
            >>> from manylabel import Bundle
            >>> Bundle.open("bundle").manifest.max_length
            32
        """
        if re.match(r"hf:/{1,2}", str(path)):  # a Path merges the two slashes
            raise InputError(
                f"{path} is not a folder. Download it first: manylabel.hub.resolve_bundle_path({str(path)!r})."
            )
        path = Path(path)
        if not os.path.isdir(path):  # Path.is_dir raises where a name is too long to exist
            raise InputError(f"there is no bundle at {path}: no such folder.{suggest_path(path) or _EXPORT}")
        if not os.path.lexists(path / MANIFEST):
            raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}.{_EXPORT}")
        manifest, found = read_manifest(_read_regular(path / MANIFEST), where=str(path / MANIFEST))
        if digest not in (None, found):
            raise BundleError(
                f"{reference or path} has the digest {found}; expected {digest}. "
                "Find out who changed the bundle before you accept the new digest."
            )
        _check_folder(path, manifest)
        return cls(path, manifest, found, reference)

    @property
    def origin(self) -> str:
        """Where another process finds this very bundle: its commit on the Hub, or its folder's absolute path."""
        return self.reference or str(self.path.absolute())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in column order."""
        return self.manifest.labels

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The graphs by precision, the most exact first."""
        return {variant.precision: variant for variant in self.manifest.variants}

    def weights_of(self, variant: Variant) -> tuple[str, ...]:
        """Return the names of the files that hold a graph's weights: one, or none if the graph holds them itself."""
        name = variant.file + WEIGHTS
        return (name,) if name in self.manifest.files else ()

    def read(self, name: str) -> bytes:
        """Return a file's bytes, verified against the manifest.

        Raises:
            InputError: The bundle has no such file.
            BundleError: The file was changed.

        Example:
            >>> from manylabel import Bundle
            >>> Bundle.open("bundle").read("README.md")[:3]
            b'---'
        """
        self._check_listed(name)
        content = _read_regular(self.path / name)
        self._check_content(name, len(content), hashlib.sha256(content).hexdigest())
        return content

    @contextmanager
    def loadable(self, name: str) -> Iterator[bytes | str]:
        """Return a file for a library to load, verified: a path to a copy that cannot be changed, or the bytes.

        The copy takes less memory than the bytes, but not every system supports it.

        Raises:
            InputError: The bundle has no such file.
            BundleError: The file was changed.

        Example:
            >>> from manylabel import Bundle
            >>> with Bundle.open("bundle").loadable("model.onnx") as model:
            ...     isinstance(model, str | bytes)
            True
        """
        self._check_listed(name)
        with ExitStack() as stack:
            descriptor = stack.enter_context(_open_regular(self.path / name))
            try:
                copy = stack.enter_context(sealed_copy(descriptor))
            except OSError:
                content: bytes | str = self.read(name)
            else:
                self._check_content(name, copy.bytes, copy.sha256)
                content = copy.path
            yield content

    def verify(self) -> None:
        """Hash every file and compare it with the manifest.

        Raises:
            BundleError: A file was changed.

        Example:
            >>> from manylabel import Bundle
            >>> Bundle.open("bundle").verify()
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
                f"{self.path / name} was changed after the bundle was made: its SHA-256 differs from the manifest's. "
                f"{RESTORE}"
            )


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Return size and digest of every file in a folder that is about to become a bundle.

    Example:
        >>> from pathlib import Path
        >>> record_files(Path("bundle")) == Bundle.open("bundle").manifest.files
        True
    """
    return {
        path.name: FileRecord(path.stat().st_size, _digest(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_folder(path: Path, manifest: Manifest) -> None:
    """Compare the names, kinds and sizes of the folder's files with the manifest."""
    try:
        with os.scandir(path) as entries:
            present = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    missing = sorted(manifest.files.keys() - present.keys())
    extra = sorted(present.keys() - manifest.files.keys() - {MANIFEST})
    if missing:
        raise BundleError(f"{path} lacks {', '.join(missing)}. {RESTORE}")
    if extra:
        raise BundleError(
            f"{path} contains {', '.join(extra)}, which the manifest does not list. Remove what does not belong to the "
            "bundle."
        )
    for name, record in manifest.files.items():
        _check_kind(path / name, present[name])
        if present[name].st_size != record.bytes:
            size = present[name].st_size
            raise BundleError(f"{path / name} has {size:,} bytes; expected {record.bytes:,}. {RESTORE}")


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise BundleError(f"{path} is a link; a bundle contains the files themselves. Copy the bundle with cp -rL.")
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path} is a folder or a special file; a bundle contains only regular files. {RESTORE}")
    if status.st_nlink > 1:
        raise BundleError(f"{path} is a hard link, so it can be changed from elsewhere. Copy the bundle with cp -r.")


def _read_regular(path: Path) -> bytes:
    with _open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        return file.read()


@contextmanager
def _open_regular(path: Path) -> Iterator[int]:
    """Open a regular file for reading, without following a link or waiting for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ELOOP:  # O_NOFOLLOW met a link
            _check_kind(path, os.lstat(path))
        raise _unreadable(path, exc) from exc
    try:
        _check_kind(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _unreadable(path: Path, exc: OSError) -> BundleError:
    return BundleError(
        f"{path} cannot be read: {exc.strerror}. A bundle contains regular files; grant read access to them."
    )
