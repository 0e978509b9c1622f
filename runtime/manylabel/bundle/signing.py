"""Signatures of bundles by OpenSSF model signing: the one module that imports `model_signing`.

A signature lies beside its bundle, as `BUNDLE.sig`: inside it, the signature would have to cover itself. It covers
every file, so that other tools that read the format can check it. For us it is enough that it covers `bundle.json` as
it was read: all that is loaded is verified against the manifest's digests, so a file that is changed after the check is
still detected.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from manylabel.bundle.bundle import MANIFEST, Bundle
from manylabel.errors import InputError, MissingDependency, SignatureInvalid
from manylabel.system.did_you_mean import suggest_path


def signature_of(bundle: Path) -> Path:
    """Return the path of a bundle's signature: beside the folder itself, even if `bundle` is a link to it.

    Example:
        >>> from pathlib import Path
        >>> signature_of(Path("bundle")).name
        'bundle.sig'
    """
    folder = bundle.resolve()
    return folder.with_name(f"{folder.name}.sig")


def sign(bundle: Bundle, private_key: Path, *, password: str | None = None) -> Path:
    """Sign a bundle with an elliptic-curve key (P-256, P-384 or P-521), replacing an existing signature.

    Args:
        bundle: The bundle; its files are verified first.
        private_key: A PEM file.
        password: The key's password if it is encrypted.

    Returns:
        The path of the signature.

    Raises:
        BundleError: A file of the bundle was changed.
        InputError: The key cannot be read, or the password is wrong.
        MissingDependency: The extra `sign` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from cryptography.hazmat.primitives import serialization
        >>> from cryptography.hazmat.primitives.asymmetric import ec
        >>> key = ec.generate_private_key(ec.SECP256R1())
        >>> _ = Path("key.pem").write_bytes(key.private_bytes(
        ...     serialization.Encoding.PEM,
        ...     serialization.PrivateFormat.PKCS8,
        ...     serialization.NoEncryption(),
        ... ))
        >>> sign(Bundle.open("bundle"), Path("key.pem")).name
        'bundle.sig'
    """
    library = _library()
    bundle.verify()
    path = signature_of(bundle.path)
    secret = None if password is None else password.encode()  # the library declares a string and needs bytes
    with _key_errors(private_key, "a private elliptic-curve key in PEM, or needs another password"):
        signer = library.signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
    signer.set_hashing_config(_hashing(library)).sign(bundle.path.resolve(), path)
    return path


def verify_signature(bundle: Bundle, public_key: Path) -> None:
    """Raise an error unless a bundle is signed with a key.

    Args:
        bundle: The bundle, opened.
        public_key: A PEM file.

    Raises:
        InputError: The key cannot be read.
        SignatureInvalid: There is no signature, or it belongs to another key or bundle.
        MissingDependency: The extra `sign` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from shutil import copytree
        >>> verify_signature(Bundle.open(copytree("bundle", "unsigned")), Path("maker.pub"))
        Traceback (most recent call last):
        manylabel.errors.SignatureInvalid: unsigned has no signature: ...
    """
    library = _library()
    signature = signature_of(bundle.path)
    if not signature.is_file():
        raise SignatureInvalid(f"{bundle.path} has no signature: {signature} does not exist. {_ASK}")
    with _key_errors(public_key, "a public elliptic-curve key in PEM"):
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    hashing = _hashing(library)
    try:
        verifier.set_hashing_config(hashing).verify(bundle.path.resolve(), signature)
    except Exception as exc:  # for a forged signature the library raises whatever its parsers raise
        raise SignatureInvalid(
            f"{signature} is not a signature of {bundle.path} by {public_key}: {str(exc).rstrip('.')}. {_ASK}"
        ) from exc
    read = hashlib.sha256(bundle.manifest.to_bytes()).hexdigest()
    if hashing.digests.get(MANIFEST) != read:
        raise SignatureInvalid(f"{bundle.path / MANIFEST} was changed while its signature was checked. {_ASK}")


_ASK = "Get both from the bundle's maker, or load the bundle without the key if you trust the folder."


@contextmanager
def _key_errors(key: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InputError(f"the key {key} cannot be read: {exc.strerror}.{suggest_path(key)}") from exc
    except (ValueError, TypeError) as exc:  # raised by cryptography, the latter for a password
        raise InputError(f"{key} is not {expected}: {exc}") from exc


def _hashing(library: ModuleType) -> Any:
    """Return a configuration that hashes every file by SHA-256 and keeps the digests."""

    class Hashing(library.hashing.Config):  # type: ignore[misc, name-defined]  # known at run time
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
