"""Signatures of bundles by OpenSSF model signing: the one place that knows `model_signing`.

A signature lies beside its bundle, as `BUNDLE.sig`: inside, it would have to sign itself. It covers every file, so that
other tools that read the format can check it. Here what counts is that it covers `bundle.json` as it was read, whose
digests all that is loaded is held to: a file changed after the check is found all the same.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from manylabel.bundle.bundle import MANIFEST, Bundle
from manylabel.errors import InputError, MissingDependency, SignatureInvalid
from manylabel.hub.download import fetch_signature
from manylabel.system.did_you_mean import near_path


def signature_of(bundle: Path) -> Path:
    """Where a bundle's signature lies: beside the folder itself, whatever link leads to it."""
    folder = bundle.resolve()
    return folder.with_name(f"{folder.name}.sig")


def sign(bundle: Bundle, private_key: Path, *, password: str | None = None) -> Path:
    """Sign a bundle with an elliptic key (P-256, P-384 or P-521), replacing a signature that is there.

    Args:
        bundle: Its files are hashed before.
        private_key: A PEM file.
        password: Of the key, where it is encrypted.

    Returns:
        Where the signature was written.

    Raises:
        BundleError: A file of the bundle was changed.
        InputError: It is no such key, or the password is wrong.
        MissingDependency: The extra `sign` is not installed.
    """
    library = _library()
    bundle.verify()
    path = signature_of(bundle.path)
    secret = None if password is None else password.encode()  # the library asks for a string and needs bytes
    with _sentences(private_key, "a private elliptic key in PEM, or it needs another password"):
        signer = library.signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
    signer.set_hashing_config(_hashing(library)).sign(bundle.path.resolve(), path)
    return path


def open_signed(path: Path | str, public_key: Path | str | None, *, digest: str | None = None) -> Bundle:
    """Open a bundle; where a key is given, only with a signature by it.

    Args:
        path: The bundle's folder, or its reference on the hub.
        public_key: A PEM file, or None to trust the folder.
        digest: The bundle that is meant.

    Raises:
        InputError: There is no bundle, or no such key.
        SignatureInvalid: There is no signature, or it is another key's or another bundle's.
        BundleError: The bundle is damaged.
        MissingDependency: The extra `sign` is not installed.
    """
    bundle = Bundle.open(path, digest=digest)
    if public_key is not None:
        _check(bundle, Path(public_key))
    return bundle


def _check(bundle: Bundle, public_key: Path) -> None:
    library = _library()
    signature = signature_of(bundle.path)
    if bundle.reference and not signature.is_file():
        fetch_signature(bundle.reference, signature)
    if not signature.is_file():
        raise SignatureInvalid(f"{bundle.path} has no signature: there is no {signature}. {_ASK}")
    with _sentences(public_key, "a public elliptic key in PEM"):
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    hashing = _hashing(library)
    try:
        verifier.set_hashing_config(hashing).verify(bundle.path.resolve(), signature)
    except Exception as exc:  # the library raises whatever its parsers do on a forged signature
        raise SignatureInvalid(
            f"{signature} is no signature of {bundle.path} by {public_key}: {str(exc).rstrip('.')}. {_ASK}"
        ) from exc
    read = hashlib.sha256(bundle.manifest.to_bytes()).hexdigest()
    if hashing.digests.get(MANIFEST) != read:
        raise SignatureInvalid(f"{bundle.path / MANIFEST} was changed while its signature was checked. {_ASK}")


_ASK = "Fetch both from who made them, or load the bundle without the key if you trust the folder."


@contextmanager
def _sentences(key: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InputError(f"the key {key} cannot be read: {exc.strerror}.{near_path(key)}") from exc
    except (ValueError, TypeError) as exc:  # what cryptography raises, the latter for a password
        raise InputError(f"{key} is not {expected}: {exc}") from exc


def _hashing(library: ModuleType) -> Any:
    """Hashes every file by SHA-256 and keeps what it found."""

    class Hashing(library.hashing.Config):  # type: ignore[misc, name-defined]  # known when it runs
        digests: dict[str, str]

        def hash(self, *given: Any, **named: Any) -> Any:
            manifest = super().hash(*given, **named)
            self.digests = {each.identifier: each.digest.digest_hex for each in manifest.resource_descriptors()}
            return manifest

    return Hashing().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)


def _library() -> ModuleType:
    try:
        import model_signing.signing
        import model_signing.verifying
    except ImportError as exc:
        raise MissingDependency('signatures need model-signing. pip install "manylabel[sign]"') from exc
    library: ModuleType = model_signing
    return library
