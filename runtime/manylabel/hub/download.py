"""A bundle of the hub as a folder: the manifest first, then the files that it lists, and no other.

The library's cache is made of links into a store that other revisions share, and a bundle holds no links. So its
files are copied, hashed as they are, into a folder of their own among the library's assets, one for every commit.
"""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from manylabel.bundle.manifest import MANIFEST, FileRecord, read_manifest
from manylabel.errors import BundleError, CannotWrite, OutputExists
from manylabel.hub.client import library, sentences
from manylabel.hub.hub_ref import Reference
from manylabel.system.atomic_write import publish_folder

SIGNATURE = "bundle.sig"
"""The file of a repository that holds its bundle's signature, which lies beside a folder."""

COMMIT = re.compile(r"[0-9a-f]{40}")

POINTER = b"version https://git-lfs.github.com/spec/"
"""How the file begins that Git has in place of a large one."""


def fetch(reference: Reference) -> tuple[Path, Reference]:
    """A bundle's folder, and its commit; nothing is asked of a hub where a commit is named whose folder is there.

    Raises:
        HubError: The hub has it not, gives it not, or cannot be reached, and the cache does not have it.
        BundleError: It is no bundle, or its files are not those of its manifest.
        CannotWrite: The cache cannot be written.
        MissingDependency: `huggingface_hub` is not installed.
    """
    try:
        bundles = _bundles_of(reference)
        if COMMIT.fullmatch(reference.revision) and (bundles / reference.revision).is_dir():
            return bundles / reference.revision, reference
        manifest = manifest_of(reference)
        pinned = replace(reference, revision=manifest.parent.name)  # the cache calls a snapshot by its commit
        folder = bundles / pinned.revision
        if not folder.is_dir():
            _fill(folder, pinned, manifest.read_bytes())
    except OSError as exc:
        raise CannotWrite(
            f"{reference} cannot be kept in the cache: {exc}. "
            "Make room there or grant it, or name another place by HF_HOME."
        ) from exc
    return folder, pinned


def fetch_signature(reference: Reference, path: Path) -> None:
    """Put a bundle's signature where it is looked for; nothing where the repository has none.

    Raises:
        HubError: The hub does not answer, and the cache does not have it.
    """
    try:
        found = _download(reference, SIGNATURE)
    except FileNotFoundError:
        return
    shutil.copyfile(found, path)


def _fill(folder: Path, reference: Reference, raw: bytes) -> None:
    """Copy what a manifest lists; the folder appears whole or not at all."""
    manifest, _ = read_manifest(raw, where=f"{reference}: {MANIFEST}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        staging = Path(scratch) / folder.name
        staging.mkdir()
        (staging / MANIFEST).write_bytes(raw)
        for name, record in manifest.files.items():
            try:
                found = _download(reference, name)
            except FileNotFoundError as exc:
                raise BundleError(f"{reference} lacks {name}, which its manifest lists. {_PUSH}") from exc
            _copy(found, staging / name, record, where=f"{reference}: {name}")
        try:
            publish_folder(staging, folder)
        except (OutputExists, OSError):
            if not folder.is_dir():  # else another process was first
                raise


def _copy(source: Path, target: Path, record: FileRecord, *, where: str) -> None:
    """A file of the cache, held to its record as it is copied."""
    size = source.stat().st_size
    if size != record.bytes:
        with source.open("rb") as file:
            pointer = file.read(len(POINTER)) == POINTER
        why = " It is a Git LFS pointer, not the file." if pointer else ""
        raise BundleError(f"{where} has {size:,} bytes and should have {record.bytes:,}.{why} {_PUSH}")
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
            raise BundleError(
                f"{where}: its SHA-256 is not the manifest's. Remove {source.resolve()} and load the bundle again; "
                "where that does not help, its files were changed one by one, and it has to be pushed anew."
            )


_PUSH = "Push it anew with manylabel push."


def manifest_of(reference: Reference) -> Path:
    """A bundle's manifest in the library's cache.

    Raises:
        BundleError: The repository has none.
        HubError: The hub has it not, gives it not, or cannot be reached, and the cache does not have it.
    """
    try:
        return _download(reference, MANIFEST)
    except FileNotFoundError as exc:
        raise BundleError(f"{reference} is no bundle: it has no {MANIFEST}. {_PUSH}") from exc


def _download(reference: Reference, name: str) -> Path:
    """A file in the library's cache, as a link there.

    Raises:
        FileNotFoundError: The repository has no such file.
    """
    hub = library()
    with sentences(reference, f"reading {name}"):
        return Path(
            hub.hf_hub_download(reference.repository, name, revision=reference.revision, library_name="manylabel")
        )


def _bundles_of(reference: Reference) -> Path:
    """Where a repository's bundles lie, a folder a commit: as `huggingface_hub.cached_assets_path`, which makes it."""
    assets = Path(library().constants.HF_ASSETS_CACHE).expanduser()
    return assets / "manylabel" / reference.repository.replace("/", "--") / "bundles"
