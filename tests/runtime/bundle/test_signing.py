"""With a key, only a bundle that is signed with it and unchanged since is loaded."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.runtime.conftest import Cli, Resign

from manylabel import Bundle, BundleError, Classifier, InputError, SignatureInvalid
from manylabel.bundle.signing import sign, signature_of, verify_signature
from manylabel.hub import open_bundle

pytest.importorskip("model_signing")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import verifying

Keys = tuple[Path, Path]


def write_keys(folder: Path, name: str, password: bytes | None = None) -> Keys:
    """Write a private and a public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("keys"), "maker")


@pytest.fixture
def signed(own_bundle: Path, keys: Keys) -> Path:
    """A copy of the bundle, signed by its maker."""
    sign(Bundle.open(own_bundle), keys[0])
    return own_bundle


def test_signed_bundle_loads(signed: Path, keys: Keys, classifier: Classifier) -> None:
    loaded = Classifier.load(signed, device="cpu", verify_key=keys[1])
    assert loaded.predict("late parcel") == classifier.predict("late parcel")


def test_signature_is_beside_the_unchanged_bundle(signed: Path) -> None:
    assert signature_of(signed) == signed.parent / "bundle.sig"
    assert signature_of(signed).is_file()
    Bundle.open(signed).verify()


def test_model_signing_verifies_the_signature(signed: Path, keys: Keys) -> None:
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
    verifier.verify(signed, signature_of(signed))
    (signed / "README.md").write_text("changed")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*README\.md"):
        verifier.verify(signed, signature_of(signed))


def test_signature_survives_renaming_the_bundle(signed: Path, tmp_path: Path, keys: Keys) -> None:
    moved = shutil.copytree(signed, tmp_path / "elsewhere" / "reviews")
    shutil.copy(signature_of(signed), tmp_path / "elsewhere" / "reviews.sig")
    assert open_bundle(moved, verify_key=keys[1]).digest == Bundle.open(signed).digest


@pytest.mark.parametrize("way", [".", "{}/"])
def test_signature_is_found_for_any_path_spelling(
    signed: Path, keys: Keys, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(signed)
    open_bundle(way.format(signed), verify_key=keys[1])


def test_link_to_signed_bundle_is_followed(signed: Path, tmp_path: Path, keys: Keys) -> None:
    """Deployments switch versions like this: `current -> 2026-11-01`."""
    (tmp_path / "current").symlink_to(signed)
    open_bundle(tmp_path / "current", verify_key=keys[1])


# Forgeries: every digest matches, because the forger computed them again


def relabel(signed: Path, resign: Resign) -> None:
    resign(signed, lambda manifest: manifest["labels"].reverse())


def replace_graph(signed: Path, resign: Resign) -> None:
    shutil.copy(signed / "model.onnx", signed / "model_int8.onnx")
    resign(signed)


def replace_signature(signed: Path, resign: Resign) -> None:
    private, _ = write_keys(signed.parent, "forger")
    sign(Bundle.open(signed), private)


def damage_signature(signed: Path, resign: Resign) -> None:
    content = json.loads(signature_of(signed).read_text())
    content["dsseEnvelope"]["payload"] = content["dsseEnvelope"]["payload"][::-1]
    signature_of(signed).write_text(json.dumps(content))


def empty_signature(signed: Path, resign: Resign) -> None:
    signature_of(signed).write_text("")


def drop_signature(signed: Path, resign: Resign) -> None:
    signature_of(signed).unlink()


FORGERIES = (relabel, replace_graph, replace_signature, damage_signature, empty_signature, drop_signature)


@pytest.mark.parametrize("forge", FORGERIES)
def test_forged_bundle_is_rejected(
    signed: Path, keys: Keys, resign: Resign, cli: Cli, forge: Callable[[Path, Resign], None]
) -> None:
    forge(signed, resign)
    Bundle.open(signed).verify()  # without the key the forgery is not detected
    done = cli("verify", signed, "--device", "cpu", "--verify-key", keys[1])
    assert done.exit_code == 3, done.output
    assert done.stderr.startswith("SignatureInvalid: ")
    assert len(done.stderr.splitlines()) == 1


def test_changed_signature_bytes_are_rejected_or_harmless(signed: Path, keys: Keys) -> None:
    """A changed byte is detected, unless it is in a field that does not affect what was signed."""
    whole = signature_of(signed).read_bytes()
    refused = 0
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        signature_of(signed).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert open_bundle(signed, verify_key=keys[1]).manifest == Bundle.open(signed).manifest
        except SignatureInvalid:
            refused += 1
    assert refused > 40


def test_manifest_change_during_verification_is_detected(
    signed: Path, keys: Keys, resign: Resign, tmp_path: Path
) -> None:
    """A forgery is read, and the maker's bundle is restored before the files are hashed for the signature."""
    forged = resign(Path(shutil.copytree(signed, tmp_path / "forged")), lambda manifest: manifest["labels"].reverse())
    read = Bundle.open(forged)
    with pytest.raises(SignatureInvalid, match="was changed while its signature was checked"):
        verify_signature(Bundle(signed, read.manifest, read.digest), keys[1])


def test_graph_change_after_verification_is_detected(signed: Path, keys: Keys) -> None:
    bundle = open_bundle(signed, verify_key=keys[1])
    content = bytearray((signed / "model_int8.onnx").read_bytes())
    content[-1] ^= 1
    (signed / "model_int8.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256"):
        bundle.read("model_int8.onnx")


def test_damaged_bundle_cannot_be_signed(own_bundle: Path, keys: Keys, cli: Cli) -> None:
    content = (own_bundle / "README.md").read_bytes()
    (own_bundle / "README.md").write_bytes(content[::-1])
    done = cli("sign", own_bundle, "--key", keys[0])
    assert done.exit_code == 3
    assert not signature_of(own_bundle).exists()


# Keys


def test_key_with_password(own_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    private, public = write_keys(tmp_path, "hidden", b"secret")
    wrong = cli("sign", own_bundle, "--key", private, "--password", "guess")
    assert (wrong.exit_code, signature_of(own_bundle).exists()) == (2, False)
    done = cli("sign", own_bundle, "--key", private, "--password", "secret")
    assert done.output == f"signed: {signature_of(own_bundle)}\n"
    open_bundle(own_bundle, verify_key=public)


def test_sign_json_output(own_bundle: Path, keys: Keys, cli: Cli) -> None:
    message = json.loads(cli("sign", own_bundle, "--key", keys[0], "--json").stdout)
    assert message == {"signature": str(signature_of(own_bundle)), "digest": Bundle.open(own_bundle).digest}


@pytest.mark.parametrize(
    "content", [None, "", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_invalid_key_error(signed: Path, tmp_path: Path, content: str | None) -> None:
    key = tmp_path / "key.pub"
    if content is not None:
        key.write_text(content)
    with pytest.raises(InputError, match=r"key\.pub"):
        open_bundle(signed, verify_key=key)
    with pytest.raises(InputError, match=r"key\.pub"):
        sign(Bundle.open(signed), key)


# Every way to load a bundle


def test_unpickled_classifier_verifies_signature(signed: Path, keys: Keys) -> None:
    pickled = pickle.dumps(Classifier.load(signed, device="cpu", verify_key=keys[1]))
    assert pickle.loads(pickled).predict("late parcel")
    signature_of(signed).unlink()
    with pytest.raises(SignatureInvalid):
        pickle.loads(pickled)


@pytest.mark.parametrize("command", ["predict", "serve", "score"])
def test_every_loading_command_verifies_signature(
    signed: Path, keys: Keys, cli: Cli, command: str, tmp_path: Path
) -> None:
    signature_of(signed).unlink()
    (tmp_path / "texts.csv").write_text("text\nlate parcel\n")
    rest = {
        "predict": ["late"],
        "serve": ["--port", 0],
        "score": [tmp_path / "texts.csv", "--output", tmp_path / "o.csv"],
    }
    done = cli(command, signed, *rest[command], "--device", "cpu", "--verify-key", keys[1])
    assert (done.exit_code, done.stderr.splitlines()[-1].split(":")[0]) == (3, "SignatureInvalid"), done.output
