"""A bundle on the Hub predicts like its folder, is pinned to a commit, and is downloaded once."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from tests.helpers.hub_server import Hub
from tests.runtime.conftest import Resign
from tests.runtime.hub.conftest import Done, Run, Script

from manylabel import Bundle, Classifier, InputError
from manylabel.hub import HubReference, open_bundle
from manylabel.hub.client import bundle_name

REFERENCE = "hf://ada/reviews"
TEXT = "late parcel"


def folder_of(home: Path, commit: str) -> Path:
    """Return the folder of a commit's bundle in the cache."""
    return home / "assets" / "manylabel" / "ada--reviews" / "bundles" / commit


def renamed(bundle: Path, folder: Path, resign: Resign) -> Path:
    """Copy a bundle with another digest."""
    return resign(Path(shutil.copytree(bundle, folder)), lambda manifest: manifest["source"].update(again=1))


def test_hub_bundle_predicts_like_its_folder(hub: Hub, run: Run, bundle: Path, classifier: Classifier) -> None:
    hub.push("ada/reviews", bundle)
    (done,) = run(["predict", REFERENCE, TEXT])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["scores"] == classifier.classify(TEXT)[0].scores


def test_downloads_listed_files_without_links(hub: Hub, run: Run, bundle: Path, home: Path) -> None:
    commit = hub.push("ada/reviews", bundle, **{"pytorch_model.bin": b"x" * 100, "train.py": b"print()"})
    (done,) = run(["verify", REFERENCE, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["bundle"] == f"{REFERENCE}@{commit}"
    opened = Bundle.open(folder_of(home, commit))  # rejects links and files that are not listed
    opened.verify()
    requested = {line.split("/")[-1] for line in hub.requests if "/resolve/" in line}
    assert requested == {*opened.manifest.files, "bundle.json"}


def test_branch_resolves_to_a_commit(hub: Hub, run: Run, bundle: Path, tmp_path: Path, resign: Resign) -> None:
    first = hub.push("ada/reviews", bundle)
    assert run(["inspect", REFERENCE])[0].stdout.startswith(f"{REFERENCE}@{first}: ")
    second = hub.push("ada/reviews", renamed(bundle, tmp_path / "other", resign))
    moved, kept = run(["inspect", REFERENCE], ["inspect", f"{REFERENCE}@{first}"])
    assert moved.stdout.startswith(f"{REFERENCE}@{second}: ")
    assert kept.stdout.startswith(f"{REFERENCE}@{first}: ")
    assert Bundle.open(bundle).digest in kept.stdout
    assert Bundle.open(bundle).digest not in moved.stdout


def test_cached_commit_needs_no_request(hub: Hub, run: Run, bundle: Path) -> None:
    commit = hub.push("ada/reviews", bundle)
    run(["inspect", REFERENCE])
    hub.requests.clear()
    assert run(["predict", f"{REFERENCE}@{commit}", TEXT])[0].exit_code == 0
    assert hub.requests == []


def test_offline_uses_last_commit_of_branch(hub: Hub, run: Run, bundle: Path) -> None:
    commit = hub.push("ada/reviews", bundle)
    run(["inspect", REFERENCE])
    hub.requests.clear()
    (done,) = run(["inspect", REFERENCE], HF_HUB_OFFLINE="1")
    assert done.stdout.startswith(f"{REFERENCE}@{commit}: ")
    assert hub.requests == []


def test_offline_uses_huggingface_cache(hub: Hub, run: Run, script: Script, bundle: Path) -> None:
    """Container images are built like this: `hf download ada/reviews`, and no network afterwards."""
    hub.push("ada/reviews", bundle)
    script("from huggingface_hub import snapshot_download; snapshot_download('ada/reviews')")
    (done,) = run(["verify", REFERENCE, "--device", "cpu"], HF_HUB_OFFLINE="1")
    assert done.exit_code == 0, done.stderr


def test_every_command_accepts_a_hub_reference(hub: Hub, run: Run, bundle: Path, tmp_path: Path) -> None:
    hub.push("ada/reviews", bundle)
    (tmp_path / "texts.csv").write_text(f"text\n{TEXT}\n")
    commands: list[list[object]] = [
        ["explain", REFERENCE, TEXT],
        ["triton", REFERENCE, "--output", tmp_path / "repository", "--long-text", "truncate"],
    ]
    if importlib.util.find_spec("pyarrow"):
        commands += [
            ["score", REFERENCE, tmp_path / "texts.csv", "-o", tmp_path / "scored.csv", "--threshold", "0.4"],
            ["certify", REFERENCE, tmp_path / "scored.csv", "--labels-column", "labels"],
            ["drift", REFERENCE, tmp_path / "scored.csv"],
        ]
    for command, done in zip(commands, run(*commands), strict=True):
        assert done.exit_code == 0 or command[0] == "drift", (command, done.stderr)  # a single text may count as drift
        assert "Error" not in done.stderr
    assert (tmp_path / "repository" / "reviews").is_dir()


def test_unpickled_classifier_uses_the_same_commit(
    hub: Hub, script: Script, bundle: Path, home: Path, tmp_path: Path, resign: Resign
) -> None:
    """As on another machine: the cache is empty, and the branch has moved."""
    hub.push("ada/reviews", bundle)
    load = "import pickle, sys; from manylabel import Classifier; "
    packed = script(f"{load}print(pickle.dumps(Classifier.load('{REFERENCE}', device='cpu')).hex())").split()[-1]
    hub.push("ada/reviews", renamed(bundle, tmp_path / "other", resign))
    shutil.rmtree(home)
    again = script(f"{load}print(pickle.loads(bytes.fromhex(sys.argv[1])).bundle.digest)", packed)
    assert again.split()[-1] == Bundle.open(bundle).digest


def test_concurrent_downloads(hub: Hub, script: Script, bundle: Path, home: Path) -> None:
    commit = hub.push("ada/reviews", bundle)
    both = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'manylabel', 'inspect', sys.argv[1]]\n"
        "each = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]\n"
        "print([process.wait() for process in each])"
    )
    assert script(both, REFERENCE) == "[0, 0]\n"
    assert [path.name for path in folder_of(home, commit).parent.iterdir()] == [commit]


def test_resolve_bundle_path(hub: Hub, script: Script, bundle: Path, home: Path) -> None:
    commit = hub.push("ada/reviews", bundle)
    text = "import sys; from manylabel.hub import resolve_bundle_path; print(*map(resolve_bundle_path, sys.argv[1:]))"
    assert script(text, REFERENCE, "models/reviews").split() == [str(folder_of(home, commit)), "models/reviews"]


# Pins


def test_digest_pins_a_hub_bundle(hub: Hub, run: Run, bundle: Path, tmp_path: Path, resign: Resign) -> None:
    hub.push("ada/reviews", bundle)
    digest = Bundle.open(bundle).digest
    command: list[object] = ["predict", REFERENCE, TEXT, "--digest", digest]
    assert run(command)[0].exit_code == 0
    other = renamed(bundle, tmp_path / "other", resign)
    hub.push("ada/reviews", other)
    (done,) = run(command)
    assert done.exit_code == 3
    assert f"has the digest {Bundle.open(other).digest}; expected {digest}" in done.error


def test_digest_pins_a_folder(bundle: Path, tmp_path: Path, resign: Resign) -> None:
    digest = Bundle.open(bundle).digest
    assert Classifier.load(bundle, device="cpu", digest=digest).bundle.digest == digest
    other = renamed(bundle, tmp_path / "other", resign)
    with pytest.raises(Exception, match=f"expected {digest}"):
        Classifier.load(other, device="cpu", digest=digest)


def test_download_includes_the_signature(hub: Hub, run: Run, own_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    from tests.runtime.bundle.test_signing import write_keys

    from manylabel.bundle.signing import sign, signature_of

    private, public = write_keys(tmp_path, "maker")
    _, other = write_keys(tmp_path, "other")
    sign(Bundle.open(own_bundle), private)
    hub.push("ada/reviews", own_bundle, **{"bundle.sig": signature_of(own_bundle).read_bytes()})
    right, wrong = run(
        ["verify", REFERENCE, "--device", "cpu", "--verify-key", public],
        ["verify", REFERENCE, "--device", "cpu", "--verify-key", other],
    )
    assert right.exit_code == 0, right.stderr
    assert (wrong.exit_code, wrong.error.split(":")[0]) == (3, "SignatureInvalid")
    hub.push("ada/unsigned", own_bundle)
    (none,) = run(["verify", "hf://ada/unsigned", "--device", "cpu", "--verify-key", public])
    assert (none.exit_code, "has no signature" in none.error) == (3, True)


# References


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://ada/reviews", ("ada/reviews", "main")),
        ("hf://ada/reviews@v1.2", ("ada/reviews", "v1.2")),
        ("hf://ada/reviews@refs/pr/3", ("ada/reviews", "refs/pr/3")),
        (Path("hf://ada/reviews@v1"), ("ada/reviews", "v1")),  # a Path merges the two slashes
    ],
)
def test_hub_reference_parsing(text: str | Path, expected: tuple[str, str]) -> None:
    found = HubReference.from_path(text)
    assert found is not None
    assert (found.repository, found.revision) == expected
    assert bundle_name(text) == "reviews"


@pytest.mark.parametrize(
    "text", ["hf://reviews", "hf://ada/reviews/int8", "hf://ada/reviews@", "hf://a/b@c@d", "hf://"]
)
def test_invalid_hub_reference_error(text: str) -> None:
    with pytest.raises(InputError, match="Write USER/MODEL or USER/MODEL@REVISION"):
        open_bundle(text)


@pytest.mark.parametrize("path", ["bundle", "./hf", "hf/reviews", "/hf://a/b"])
def test_path_is_not_a_hub_reference(path: str) -> None:
    assert HubReference.from_path(path) is None


def test_missing_huggingface_hub_error(script: Script) -> None:
    message = script(
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from click.testing import CliRunner; from manylabel.cli.main import main\n"
        f"done = CliRunner().invoke(main, ['inspect', '{REFERENCE}'])\n"
        "print(done.exit_code, done.stderr)"
    )
    assert message.startswith('2 MissingDependency: hf:// and push need huggingface_hub. pip install "manylabel[hub]"')


# Errors


def refused(done: Done, code: int, kind: str, sentence: str) -> None:
    assert done.exit_code == code, done.stderr
    assert done.error.startswith(f"{kind}: "), done.stderr
    assert sentence in done.error


def test_hub_errors(hub: Hub, run: Run, bundle: Path) -> None:
    hub.push("ada/reviews", bundle)
    hub.push("ada/private", bundle)
    hub.push("ada/gated", bundle)
    hub.commit("ada/private", {"bundle.json": b"{}"}, private=True)
    hub.commit("ada/gated", {"bundle.json": b"{}"}, gated=True)
    hub.commit("ada/plain", {"model.safetensors": b"x"})
    names = ("nothing", "private", "gated", "reviews@v9", f"reviews@{'0' * 40}", "plain")
    nothing, private, gated, revision, commit, plain = run(*(["inspect", f"hf://ada/{name}"] for name in names))
    refused(nothing, 2, "HubError", f"there is no model ada/nothing at {hub.url}, or it is private.")
    refused(private, 2, "HubError", "hf auth login")
    refused(gated, 2, "HubError", f"is gated, and this account has no access. Request it at {hub.url}/ada/gated")
    refused(revision, 2, "HubError", "ada/reviews has no revision 'v9'")
    refused(commit, 2, "HubError", "has no revision '0000")
    refused(plain, 3, "BundleError", "hf://ada/plain@main is not a bundle: it has no bundle.json")


def test_offline_with_empty_cache_error(hub: Hub, run: Run, bundle: Path) -> None:
    hub.push("ada/reviews", bundle)
    (done,) = run(["inspect", REFERENCE], HF_HUB_OFFLINE="1")
    refused(done, 2, "HubError", f"{hub.url} cannot be reached, because HF_HUB_OFFLINE is set")


@pytest.mark.slow  # the library retries for half a minute
def test_no_network_error(run: Run) -> None:
    (done,) = run(["inspect", REFERENCE], HF_ENDPOINT="http://127.0.0.1:9")
    refused(done, 2, "HubError", "it is not in the cache, and http://127.0.0.1:9 cannot be reached")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
DAMAGES = {
    "lacks": (None, "lacks model_int8.onnx, which its manifest lists"),
    "pointer": (POINTER, "model_int8.onnx has 63 bytes; expected {:,}. It is a Git LFS pointer, not the file."),
    "size": (b"short", "model_int8.onnx has 5 bytes; expected {:,}. Push"),
    "bytes": (b"same", "model_int8.onnx: its SHA-256 differs from the manifest's"),
}


def test_damaged_download_is_rejected_and_removed(hub: Hub, run: Run, bundle: Path, home: Path, tmp_path: Path) -> None:
    size = (bundle / "model_int8.onnx").stat().st_size
    for name, (content, _) in DAMAGES.items():
        graph = Path(shutil.copytree(bundle, tmp_path / name)) / "model_int8.onnx"
        if content is None:
            graph.unlink()
        else:
            graph.write_bytes(graph.read_bytes()[::-1] if content == b"same" else content)
        hub.push(f"ada/{name}", tmp_path / name)
    for name, done in zip(DAMAGES, run(*(["inspect", f"hf://ada/{name}"] for name in DAMAGES)), strict=True):
        refused(done, 3, "BundleError", f"hf://ada/{name}@")
        assert DAMAGES[name][1].format(size) in done.error
    assert list((home / "assets").rglob("*.onnx")) == []


def test_unwritable_cache_error(hub: Hub, run: Run, bundle: Path, home: Path) -> None:
    hub.push("ada/reviews", bundle)
    home.mkdir()
    (home / "assets").write_text("not a folder")
    (done,) = run(["inspect", REFERENCE])
    assert done.exit_code == 2, done.stderr
    assert done.error.startswith("CannotWrite: "), done.stderr
