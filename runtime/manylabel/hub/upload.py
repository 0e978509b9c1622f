"""A bundle as one commit of a repository on the hub."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from manylabel.bundle.bundle import MANIFEST, Bundle
from manylabel.bundle.manifest import read_manifest
from manylabel.bundle.signing import signature_of
from manylabel.errors import BundleError
from manylabel.hub.client import library, sentences
from manylabel.hub.download import SIGNATURE, manifest_of
from manylabel.hub.hub_ref import MAIN, Reference


def push(bundle: Bundle, target: Reference, *, public: bool = False, message: str = "") -> Reference:
    """Make a bundle what a branch holds, with the signature that lies beside it.

    Files of the bundle that the branch held before and this one has not are removed; whatever else is in the
    repository stays.

    Args:
        bundle: Its files are hashed before.
        target: A repository and a branch; either is made where it is not there.
        public: Whether a repository that is made can be read by everybody.
        message: Of the commit.

    Returns:
        The commit.

    Raises:
        BundleError: A file of the bundle was changed.
        HubError: The hub cannot be reached, or does not let this account write there.
        MissingDependency: `huggingface_hub` is not installed.
    """
    bundle.verify()
    hub = library()
    api = hub.HfApi(library_name="manylabel")
    with sentences(target, "pushing"):
        api.create_repo(target.repository, private=not public, exist_ok=True)
        if target.revision != MAIN:
            api.create_branch(target.repository, branch=target.revision, exist_ok=True)
        before = api.model_info(target.repository, revision=target.revision)
    present = {sibling.rfilename for sibling in before.siblings}
    files = {name: bundle.path / name for name in (*bundle.manifest.files, MANIFEST)}
    if signature_of(bundle.path).is_file():
        files[SIGNATURE] = signature_of(bundle.path)
    stale = (_bundled(replace(target, revision=before.sha), present) & present) - files.keys()
    operations: list[Any] = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    operations += [hub.CommitOperationDelete(name) for name in sorted(stale)]
    with sentences(target, "pushing"):
        commit = api.create_commit(
            target.repository,
            operations,
            commit_message=message or f"Bundle {bundle.digest[:12]}",
            revision=target.revision,
            parent_commit=before.sha,  # what somebody pushes meanwhile is not mixed with this
        )
    return replace(target, revision=commit.oid)


def _bundled(commit: Reference, present: Collection[str]) -> set[str]:
    """The files of the bundle that a commit holds; none where it holds none that can be read."""
    if MANIFEST not in present:
        return set()
    try:
        manifest, _ = read_manifest(manifest_of(commit).read_bytes(), where=str(commit))
    except BundleError:
        return {SIGNATURE}
    return {*manifest.files, SIGNATURE}
