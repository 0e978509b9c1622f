"""Upload a bundle to the Hub as one commit."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from manylabel.bundle.bundle import MANIFEST, Bundle
from manylabel.bundle.manifest import read_manifest
from manylabel.bundle.signing import signature_of
from manylabel.errors import BundleError
from manylabel.hub.client import MAIN, HubReference, hub_errors, load_huggingface_hub
from manylabel.hub.download import SIGNATURE, download_manifest


def push(bundle: Bundle, target: HubReference, *, public: bool = False, message: str = "") -> HubReference:
    """Commit a bundle, and the signature beside it if there is one, to a branch of a repository.

    Files of an earlier bundle on the branch that this one does not have are removed; all other files stay.

    Args:
        bundle: The bundle; its files are verified first.
        target: The repository and the branch; either is created if it does not exist.
        public: Whether a repository that is created is public.
        message: The commit's message; by default the bundle's digest.

    Returns:
        The reference of the commit.

    Raises:
        BundleError: A file of the bundle was changed.
        HubError: The Hub cannot be reached, or this account has no write access.
        MissingDependency: The extra `hub` is not installed.

    Example:
        >>> from manylabel import Bundle
        >>> bundle, target = Bundle.open("bundle"), HubReference.parse("ada/reviews@candidate")
        >>> push(bundle, target)  # doctest: +SKIP
        HubReference(repository='ada/reviews', revision='3f2a41...')
    """
    bundle.verify()
    hub = load_huggingface_hub()
    api = hub.HfApi(library_name="manylabel")
    with hub_errors(target, "pushing"):
        api.create_repo(target.repository, private=not public, exist_ok=True)
        if target.revision != MAIN:
            api.create_branch(target.repository, branch=target.revision, exist_ok=True)
        before = api.model_info(target.repository, revision=target.revision)
    present = {sibling.rfilename for sibling in before.siblings}
    files = {name: bundle.path / name for name in (*bundle.manifest.files, MANIFEST)}
    if signature_of(bundle.path).is_file():
        files[SIGNATURE] = signature_of(bundle.path)
    stale = (_bundle_files(replace(target, revision=before.sha), present) & present) - files.keys()
    operations: list[Any] = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    operations += [hub.CommitOperationDelete(name) for name in sorted(stale)]
    with hub_errors(target, "pushing"):
        commit = api.create_commit(
            target.repository,
            operations,
            commit_message=message or f"Bundle {bundle.digest[:12]}",
            revision=target.revision,
            parent_commit=before.sha,  # fails if somebody else pushes in the meantime, instead of mixing the two
        )
    return replace(target, revision=commit.oid)


def _bundle_files(commit: HubReference, present: Collection[str]) -> set[str]:
    """Return the names of the bundle's files in a commit; empty if it contains no bundle."""
    if MANIFEST not in present:
        return set()
    try:
        manifest, _ = read_manifest(download_manifest(commit).read_bytes(), where=str(commit))
    except BundleError:
        return {SIGNATURE}
    return {*manifest.files, SIGNATURE}
