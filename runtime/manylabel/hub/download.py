"""Download a bundle from the Hub to a folder: the manifest first, then the files that it lists, and no other.

The library's cache consists of links into a store that revisions share, and a bundle contains no links. So the files
are copied, and verified as they are copied, to a folder among the library's assets, one per commit.
"""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.manifest import MANIFEST, FileRecord, read_manifest
from manylabel.bundle.signing import signature_of, verify_signature
from manylabel.errors import BundleError, CannotWrite, OutputExists
from manylabel.hub.client import HubReference, hub_errors, load_huggingface_hub
from manylabel.system.atomic_write import publish_folder

SIGNATURE = "bundle.sig"
"""The file in a repository that contains the bundle's signature."""

_COMMIT = re.compile(r"[0-9a-f]{40}")

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of the file that Git stores in place of a large one."""

_PUSH = "Push the bundle again with manylabel push."


def open_bundle(path: Path | str, *, digest: str | None = None, verify_key: Path | str | None = None) -> Bundle:
    """Open a bundle from a folder or from the Hub.

    Args:
        path: The bundle's folder, or `hf://USER/MODEL@REVISION`, which is downloaded unless it is in the cache.
        digest: Accept only the bundle with this digest.
        verify_key: Accept only a bundle that is signed with this public key, a PEM file.

    Raises:
        InputError: There is no such folder, or the key cannot be read.
        SignatureInvalid: The bundle is not signed with the key.
        BundleError: The bundle is damaged, or has another digest.
        HubError: The bundle is not found on the Hub, access is denied, or the Hub cannot be reached.
        MissingDependency: The extra `hub` or `sign` is not installed.

    Example:
        >>> open_bundle("bundle").labels
        ('billing', 'delivery', 'price', 'user experience')
    """
    reference = HubReference.from_path(path)
    if reference is None:
        bundle = Bundle.open(path, digest=digest)
    else:
        folder, commit = download_bundle(reference)
        bundle = Bundle.open(folder, digest=digest, reference=str(commit))
        if verify_key is not None and not signature_of(folder).is_file():
            _download_signature(commit, signature_of(folder))
    if verify_key is not None:
        verify_signature(bundle, Path(verify_key))
    return bundle


def resolve_bundle_path(path: Path | str) -> Path:
    """Return the folder of a bundle, downloading it if `path` is a Hub reference.

    Args:
        path: A folder, which is returned as it is, or `hf://USER/MODEL@REVISION`.

    Raises:
        BundleError: The repository does not contain a bundle, or a file differs from the manifest.
        HubError: The bundle is not found on the Hub, access is denied, or the Hub cannot be reached.
        MissingDependency: The extra `hub` is not installed.

    Example:
        >>> str(resolve_bundle_path("models/reviews"))
        'models/reviews'
    """
    reference = HubReference.from_path(path)
    return download_bundle(reference)[0] if reference else Path(path)


def download_bundle(reference: HubReference) -> tuple[Path, HubReference]:
    """Return a bundle's folder in the cache, and its commit.

    The Hub is not asked if the reference names a commit that is in the cache.

    Raises:
        HubError: The bundle is not found on the Hub, access is denied, or the Hub cannot be reached, and the bundle is
            not in the cache.
        BundleError: The repository does not contain a bundle, or a file differs from the manifest.
        CannotWrite: The cache cannot be written to.
        MissingDependency: The extra `hub` is not installed.

    Example:
        >>> folder, commit = download_bundle(HubReference("ada/reviews", "v2"))  # doctest: +SKIP
        >>> str(commit)  # doctest: +SKIP
        'hf://ada/reviews@3f2a41...'
    """
    try:
        bundles = _cache_folder(reference)
        if _COMMIT.fullmatch(reference.revision) and (bundles / reference.revision).is_dir():
            return bundles / reference.revision, reference
        manifest = download_manifest(reference)
        commit = replace(reference, revision=manifest.parent.name)  # the cache names a snapshot by its commit
        folder = bundles / commit.revision
        if not folder.is_dir():
            _download_files(folder, commit, manifest.read_bytes())
    except OSError as exc:
        raise CannotWrite(
            f"{reference} cannot be stored in the cache: {exc}. "
            "Make room or grant write access there, or choose another place with HF_HOME."
        ) from exc
    return folder, commit


def download_manifest(reference: HubReference) -> Path:
    """Return the path of a bundle's manifest in the library's cache.

    Raises:
        BundleError: The repository has no manifest.
        HubError: The bundle is not found on the Hub, access is denied, or the Hub cannot be reached, and the manifest
            is not in the cache.

    Example:
        >>> download_manifest(HubReference("ada/reviews")).name  # doctest: +SKIP
        'bundle.json'
    """
    try:
        return _download(reference, MANIFEST)
    except FileNotFoundError as exc:
        raise BundleError(f"{reference} is not a bundle: it has no {MANIFEST}. {_PUSH}") from exc


def _download_signature(reference: HubReference, path: Path) -> None:
    """Copy a repository's signature to `path` if it has one."""
    try:
        cached = _download(reference, SIGNATURE)
    except FileNotFoundError:
        return
    shutil.copyfile(cached, path)


def _download_files(folder: Path, reference: HubReference, raw: bytes) -> None:
    """Create a folder, atomically, with a manifest and the files that it lists."""
    manifest, _ = read_manifest(raw, where=f"{reference}: {MANIFEST}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        staging = Path(scratch) / folder.name
        staging.mkdir()
        (staging / MANIFEST).write_bytes(raw)
        for name, record in manifest.files.items():
            try:
                cached = _download(reference, name)
            except FileNotFoundError as exc:
                raise BundleError(f"{reference} lacks {name}, which its manifest lists. {_PUSH}") from exc
            _copy_verified(cached, staging / name, record, where=f"{reference}: {name}")
        try:
            publish_folder(staging, folder)
        except (OutputExists, OSError):
            if not folder.is_dir():  # otherwise another process was faster
                raise


def _copy_verified(source: Path, target: Path, record: FileRecord, *, where: str) -> None:
    """Copy a file from the cache and compare it with its record."""
    size = source.stat().st_size
    if size != record.bytes:
        with source.open("rb") as file:
            pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
        hint = " It is a Git LFS pointer, not the file." if pointer else ""
        raise BundleError(f"{where} has {size:,} bytes; expected {record.bytes:,}.{hint} {_PUSH}")
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
            raise BundleError(
                f"{where}: its SHA-256 differs from the manifest's. Remove {source.resolve()} and load the bundle "
                f"again. If that does not help, the repository's files were changed one by one. {_PUSH}"
            )


def _download(reference: HubReference, name: str) -> Path:
    """Return the path of a file in the library's cache, which is a link.

    Raises:
        FileNotFoundError: The repository has no such file.
    """
    hub = load_huggingface_hub()
    with hub_errors(reference, f"reading {name}"):
        return Path(
            hub.hf_hub_download(reference.repository, name, revision=reference.revision, library_name="manylabel")
        )


def _cache_folder(reference: HubReference) -> Path:
    """Return the folder of a repository's bundles, named as `huggingface_hub.cached_assets_path` does."""
    assets = Path(load_huggingface_hub().constants.HF_ASSETS_CACHE).expanduser()
    return assets / "manylabel" / reference.repository.replace("/", "--") / "bundles"
