"""A file or folder appears complete or not at all, whatever interrupts the write."""

import errno
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from tests.runtime.conftest import Python

from manylabel import CannotWrite, InputError, OutputExists
from manylabel.system.atomic_write import (
    atomic_file,
    atomic_folder,
    atomic_text_file,
    atomic_write_bytes,
    atomic_write_text,
    check_output_free,
    publish_folder,
)


def fill(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(content)
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text(content)
    return folder


def content_of(folder: Path) -> str:
    """Return what a complete folder contains."""
    above, below = (folder / "file").read_text(), (folder / "below" / "file").read_text()
    assert above == below
    return above


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        fill(folder, "new")
        assert not (tmp_path / "out").exists()
    assert content_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


def fill_and_fail(target: Path, failure: BaseException, *, force: bool = False) -> None:
    with atomic_folder(target, force=force) as folder:
        fill(folder, "half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError(), KeyboardInterrupt(), SystemExit()])
def test_atomic_folder_leaves_nothing_after_an_error(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        fill_and_fail(tmp_path / "out", failure)
    assert names(tmp_path) == []


def test_atomic_folder_keeps_the_old_folder_after_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(ValueError, match="midway"):
        fill_and_fail(tmp_path / "out", ValueError("midway"), force=True)
    assert content_of(tmp_path / "out") == "old"
    assert names(tmp_path) == ["out"]


def test_atomic_folder_replaces_only_with_force(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(OutputExists, match="replace it with --force"), atomic_folder(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert content_of(tmp_path / "out") == "old"
    with atomic_folder(tmp_path / "out", force=True) as folder:
        fill(folder, "new")
    assert content_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


def test_publish_folder_keeps_a_target_created_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    fill(tmp_path / "out", "another's")
    with pytest.raises(OutputExists):
        publish_folder(tmp_path / "mine", tmp_path / "out")
    assert content_of(tmp_path / "out") == "another's"


@pytest.mark.parametrize("replaced", [False, True])
def test_atomic_folder_removes_leftovers_of_a_killed_run(tmp_path: Path, replaced: bool) -> None:
    fill(tmp_path / ".out.new", "half")
    fill(tmp_path / ".out.old", "older")
    if replaced:
        fill(tmp_path / "out", "old")
    with atomic_folder(tmp_path / "out", force=replaced) as folder:
        assert names(folder) == []
        fill(folder, "new")
    assert content_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("x"), lambda path: path.symlink_to("nowhere"), os.mkfifo]
)
def test_force_replaces_only_a_folder(tmp_path: Path, make: object) -> None:
    make(tmp_path / "out")  # type: ignore[operator]
    with pytest.raises(OutputExists):
        check_output_free(tmp_path / "out", force=False)
    with pytest.raises(InputError, match="is not a folder"):
        check_output_free(tmp_path / "out", force=True)


def test_force_does_not_replace_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(fill(tmp_path / "precious", "old"))
    with pytest.raises(InputError, match="is not a folder"):
        check_output_free(tmp_path / "out", force=True)


@pytest.mark.parametrize("where", [".", "..", "", "inner", "/"])
def test_force_does_not_replace_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "inner" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner" / "here")
    target = tmp_path / "inner" if where == "inner" else Path(where)
    with pytest.raises(InputError, match="contains the working directory"):
        check_output_free(target, force=True)


def test_missing_parent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"the folder {tmp_path / 'absent'} does not exist"):
        check_output_free(tmp_path / "absent" / "out", force=False)


def test_atomic_folder_rejects_an_impossible_name(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="cannot be created: File name too long"),
        atomic_folder(tmp_path / ("x" * 300)),
    ):
        pytest.fail("the block must not run")


def test_atomic_folder_accepts_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_folder(Path("out")) as folder:
        fill(folder, "new")
    assert content_of(tmp_path / "out") == "new"


def test_old_folder_is_restored_when_interrupted_between_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "target", "old")
    rename, interrupted = Path.rename, []

    def rename_and_stop(self: Path, to: Path) -> Path:
        found = rename(self, to)
        if not interrupted:
            interrupted.append(self)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Path, "rename", rename_and_stop)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "target", force=True) as folder:
        fill(folder, "new")
    assert content_of(tmp_path / "target") == "old"
    assert names(tmp_path) == ["target"]


def test_atomic_folder_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First its content and itself; after the rename, the parent folder."""
    written: list[tuple[str, bool]] = []
    through = os.fsync

    def note(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        written.append((str(path.relative_to(tmp_path)), (tmp_path / "out").exists()))
        through(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with atomic_folder(tmp_path / "out") as folder:
        fill(folder, "new")
    names = ["", "/below", "/below/file", "/file"]
    assert sorted(written[:-1]) == [(f".out.new{name}", False) for name in names]
    assert written[-1] == (".", True)


def test_publish_folder_keeps_the_new_folder_if_rename_fails(tmp_path: Path) -> None:
    fill(tmp_path / "new", "new")
    with pytest.raises(OSError, match="Invalid argument"):
        publish_folder(tmp_path / "new", tmp_path / "new" / "below" / "out")
    assert content_of(tmp_path / "new") == "new"


def test_publish_folder_restores_the_old_folder_if_rename_fails(tmp_path: Path) -> None:
    """Moving a folder into itself fails on every system."""
    fill(tmp_path / "out", "old")
    with pytest.raises(OSError, match=r"."):
        publish_folder(tmp_path / "out" / "below", tmp_path / "out", force=True)
    assert content_of(tmp_path / "out") == "old"


def test_atomic_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "file", b"old")
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")
        assert (temporary.parent, content(tmp_path / "file")) == (tmp_path, b"old")
    assert content(tmp_path / "file") == b"new"
    assert names(tmp_path) == ["file"]


def content(path: Path) -> bytes:
    return path.read_bytes()


def write_half_and_raise(path: Path, failure: BaseException) -> None:
    with atomic_text_file(path) as file:
        file.write("half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError(), KeyboardInterrupt(), FileNotFoundError(errno.ENOENT, "", "input")])
def test_atomic_file_keeps_the_old_file_after_an_error(tmp_path: Path, failure: BaseException) -> None:
    atomic_write_text(tmp_path / "file", "old")
    with pytest.raises(type(failure)):
        write_half_and_raise(tmp_path / "file", failure)
    assert content(tmp_path / "file") == b"old"
    assert names(tmp_path) == ["file"]


def test_atomic_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append((Path(os.readlink(f"/proc/self/fd/{fd}")), (tmp_path / "file").exists()))
    )
    atomic_write_text(tmp_path / "file", "new")
    (temporary, before), (folder, after) = synced
    assert (temporary.parent, before) == (tmp_path, False)
    assert (folder, after) == (tmp_path, True)


def test_atomic_write_text_escapes_lone_surrogates(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "file", "a\ud800\r\n")
    assert content(tmp_path / "file") == b"a\\ud800\r\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 300, "File name too long"), ("absent/file", "No such file or directory"), ("folder", "Is a directory")],
)
def test_atomic_file_reports_an_impossible_path(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{name} cannot be written: {reason}. Choose another output."):
        atomic_write_text(tmp_path / name, "new")
    assert names(tmp_path) == ["folder"]


def write_to_full_disk(path: Path) -> None:
    with atomic_file(path, what="the table", advice="Start again.") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("too much")


def test_atomic_file_reports_a_full_disk(tmp_path: Path) -> None:
    """Writing to /dev/full fails as on a full disk."""
    with pytest.raises(CannotWrite, match=r"has no room for the table \(No space left on device; .* Start again\.$"):
        write_to_full_disk(tmp_path / "file")
    assert names(tmp_path) == []


# Kills. The script forks a child for every file-system call; the child exits at that call as if it had been killed.
KILLS = """
import json, os, sys, warnings
from pathlib import Path
from manylabel.system.atomic_write import atomic_folder

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"}
warnings.simplefilter("ignore")  # Python 3.12 warns about every fork
root, force = Path(sys.argv[1]), bool(sys.argv[2])


def fill(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(content)
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text(content)


def write(target, kill_at):
    count = 0

    def hook(event, arguments):
        nonlocal count
        count += event in STEPS
        if count == kill_at:
            os._exit(9)

    sys.addaudithook(hook)
    with atomic_folder(target, force=force) as folder:
        fill(folder, "new")
    os._exit(0)


found = []
while not found or found[-1]["exit"]:
    target = root / str(len(found)) / "out"
    target.parent.mkdir()
    if force:
        fill(target, "old")
    child = os.fork()
    if not child:
        write(target, len(found) + 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kept = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    with atomic_folder(target, force=True) as folder:
        fill(folder, "again")
    left = sorted(path.name for path in target.parent.iterdir())
    found.append({"exit": code, "kept": kept, "left": left, "again": (target / "file").read_text()})
print(json.dumps(found))
"""


@pytest.mark.parametrize("force", [False, True])
def test_killed_atomic_folder_leaves_old_folder_none_or_new_one(tmp_path: Path, python: Python, force: bool) -> None:
    done = python(KILLS, tmp_path, "force" if force else "")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 10
    none: dict[str, str] = {}
    old, new = ({"file": content, "below/file": content} for content in ("old", "new"))
    kept = [each["kept"] for each in found]
    if force:
        assert [each for each, after in pairwise(kept) if each != after] == [old, none]
        assert kept.count(none) == 1  # between the two renames
    else:
        assert [each for each, after in pairwise(kept) if each != after] == [none]
    assert kept[-1] == new
    assert all(each["left"] == ["out"] and each["again"] == "again" for each in found)  # the next run recovers
