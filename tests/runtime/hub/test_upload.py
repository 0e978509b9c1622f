"""`manylabel push` makes one commit, which loads as the bundle that was pushed."""

import json
import shutil
from pathlib import Path

from tests.helpers.hub_server import TOKEN, Hub
from tests.runtime.conftest import Resign
from tests.runtime.hub.conftest import Run

from manylabel import Bundle

OWNER = {"HF_TOKEN": TOKEN}
COMMAND = "push"


def names(hub: Hub, branch: str = "main") -> set[str]:
    """Return the names of a branch's files."""
    return {path.name for path in hub.files("ada/reviews", branch)[1].iterdir()}


def without(bundle: Path, folder: Path, precision: str, resign: Resign) -> Path:
    """Copy a bundle without one of its variants."""
    shutil.copytree(bundle, folder)
    (folder / f"model_{precision}.onnx").unlink()

    def edit(manifest: dict) -> None:  # type: ignore[type-arg]  # JSON
        manifest["variants"] = [each for each in manifest["variants"] if each["precision"] != precision]

    content = json.loads((folder / "bundle.json").read_text())
    del content["files"][f"model_{precision}.onnx"]
    (folder / "bundle.json").write_text(json.dumps(content))
    return resign(folder, edit)


def test_push_load_round_trip(hub: Hub, run: Run, bundle: Path) -> None:
    (pushed,) = run([COMMAND, bundle, "ada/reviews", "--json"], **OWNER)
    assert pushed.exit_code == 0, pushed.stderr
    message = json.loads(pushed.stdout)
    assert message["digest"] == Bundle.open(bundle).digest
    (verified,) = run(["verify", message["reference"], "--digest", message["digest"], "--device", "cpu"], **OWNER)
    assert verified.exit_code == 0, verified.stderr
    assert names(hub) == {*Bundle.open(bundle).manifest.files, "bundle.json", ".gitattributes"}


def test_new_repository_is_private_by_default(hub: Hub, run: Run, bundle: Path) -> None:
    run([COMMAND, bundle, "ada/closed"], [COMMAND, bundle, "ada/open", "--public"], **OWNER)
    assert hub.state("ada/closed")["private"]
    assert not hub.state("ada/open")["private"]
    closed, opened = run(["inspect", "hf://ada/closed"], ["inspect", "hf://ada/open"])
    assert (closed.exit_code, opened.exit_code) == (2, 0)


def test_push_replaces_bundle_files_only(hub: Hub, run: Run, bundle: Path, tmp_path: Path, resign: Resign) -> None:
    signature, notes = b"of the first", b"what the team knows"
    first = hub.push("ada/reviews", bundle, **{"bundle.sig": signature, "NOTES.md": notes})
    second = without(bundle, tmp_path / "second", "fp16", resign)
    (done,) = run([COMMAND, second, "ada/reviews"], **OWNER)
    assert done.exit_code == 0, done.stderr
    assert names(hub, first) - names(hub) == {"model_fp16.onnx", "bundle.sig"}
    assert "NOTES.md" in names(hub)
    (verified,) = run(["verify", "hf://ada/reviews", "--digest", Bundle.open(second).digest, "--device", "cpu"])
    assert verified.exit_code == 0, verified.stderr


def test_push_includes_the_signature(hub: Hub, run: Run, own_bundle: Path) -> None:
    own_bundle.with_name("bundle.sig").write_bytes(b"signed")
    run([COMMAND, own_bundle, "ada/reviews"], **OWNER)
    assert (hub.files("ada/reviews", "main")[1] / "bundle.sig").read_bytes() == b"signed"


def test_push_to_a_new_branch(hub: Hub, run: Run, bundle: Path) -> None:
    before = hub.commit("ada/reviews", {"NOTES.md": b"none yet"})
    (done,) = run([COMMAND, bundle, "ada/reviews@candidate"], **OWNER)
    assert done.exit_code == 0, done.stderr
    assert hub.files("ada/reviews", "main")[0] == before
    assert "bundle.json" in names(hub, "candidate")


def test_damaged_bundle_cannot_be_pushed(hub: Hub, run: Run, own_bundle: Path) -> None:
    graph = own_bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes()[::-1])
    (done,) = run([COMMAND, own_bundle, "ada/reviews"], **OWNER)
    assert done.exit_code == 3
    assert hub.requests == []


def test_push_without_login_error(hub: Hub, run: Run, bundle: Path) -> None:
    (done,) = run([COMMAND, bundle, "ada/reviews"])
    assert done.exit_code == 2
    assert done.error.startswith("HubError: ")
    assert "log in with a token that has access: hf auth login" in done.error


def test_push_target_must_be_valid(run: Run, bundle: Path) -> None:
    (done,) = run([COMMAND, bundle, "reviews"], **OWNER)
    assert (done.exit_code, "Write USER/MODEL" in done.error) == (2, True)
