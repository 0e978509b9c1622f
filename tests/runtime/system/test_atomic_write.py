"""Folders appear whole or not at all, whatever happens on the way."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from tests.runtime.conftest import Python

from manylabel import InputError, OutputExists
from manylabel.system.atomic_write import check_free, new_folder, publish


def fill(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(content)
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text(content)
    return folder


def content_of(folder: Path) -> str:
    """What a whole folder holds."""
    above, below = (folder / "file").read_text(), (folder / "below" / "file").read_text()
    assert above == below
    return above


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_once_it_is_filled(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        fill(folder, "new")
        assert not (tmp_path / "out").exists()
    assert content_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


def fill_and_fail(target: Path, failure: BaseException, *, force: bool = False) -> None:
    with new_folder(target, force=force) as folder:
        fill(folder, "half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError(), KeyboardInterrupt(), SystemExit()])
def test_a_failure_leaves_nothing(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        fill_and_fail(tmp_path / "out", failure)
    assert names(tmp_path) == []


def test_a_failure_leaves_the_old_folder_in_spite_of_force(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(ValueError, match="midway"):
        fill_and_fail(tmp_path / "out", ValueError("midway"), force=True)
    assert content_of(tmp_path / "out") == "old"
    assert names(tmp_path) == ["out"]


def test_an_existing_folder_is_kept_without_force_and_replaced_with_it(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(OutputExists, match="replace it with --force"), new_folder(tmp_path / "out"):
        pytest.fail("no work is to be done")
    assert content_of(tmp_path / "out") == "old"
    with new_folder(tmp_path / "out", force=True) as folder:
        fill(folder, "new")
    assert content_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


def test_what_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    fill(tmp_path / "out", "another's")
    with pytest.raises(OutputExists):
        publish(tmp_path / "mine", tmp_path / "out")
    assert content_of(tmp_path / "out") == "another's"


@pytest.mark.parametrize("replaced", [False, True])
def test_the_remains_of_a_killed_run_are_cleared_away(tmp_path: Path, replaced: bool) -> None:
    fill(tmp_path / ".out.new", "half")
    fill(tmp_path / ".out.old", "older")
    if replaced:
        fill(tmp_path / "out", "old")
    with new_folder(tmp_path / "out", force=replaced) as folder:
        assert names(folder) == []
        fill(folder, "new")
    assert content_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("x"), lambda path: path.symlink_to("nowhere"), os.mkfifo]
)
def test_only_a_folder_is_replaced(tmp_path: Path, make: object) -> None:
    make(tmp_path / "out")  # type: ignore[operator]
    with pytest.raises(OutputExists):
        check_free(tmp_path / "out", force=False)
    with pytest.raises(InputError, match="is not a folder"):
        check_free(tmp_path / "out", force=True)


def test_a_link_to_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(fill(tmp_path / "precious", "old"))
    with pytest.raises(InputError, match="is not a folder"):
        check_free(tmp_path / "out", force=True)


@pytest.mark.parametrize("where", [".", "..", "", "inner", "/"])
def test_the_folder_one_stands_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (tmp_path / "inner" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner" / "here")
    target = tmp_path / "inner" if where == "inner" else Path(where)
    with pytest.raises(InputError, match="holds the folder you are in"):
        check_free(target, force=True)


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"the folder {tmp_path / 'absent'} does not exist"):
        check_free(tmp_path / "absent" / "out", force=False)


def test_a_name_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be made: File name too long"), new_folder(tmp_path / ("x" * 300)):
        pytest.fail("no work is to be done")


def test_a_relative_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with new_folder(Path("out")) as folder:
        fill(folder, "new")
    assert content_of(tmp_path / "out") == "new"


def test_the_old_folder_comes_back_when_a_signal_falls_between_the_two_names(
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
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "target", force=True) as folder:
        fill(folder, "new")
    assert content_of(tmp_path / "target") == "old"
    assert names(tmp_path) == ["target"]


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies within, the folder, and once it is renamed the folder above."""
    written: list[tuple[str, bool]] = []
    through = os.fsync

    def note(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        written.append((str(path.relative_to(tmp_path)), (tmp_path / "out").exists()))
        through(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with new_folder(tmp_path / "out") as folder:
        fill(folder, "new")
    names = ["", "/below", "/below/file", "/file"]
    assert sorted(written[:-1]) == [(f".out.new{name}", False) for name in names]
    assert written[-1] == (".", True)


def test_a_folder_that_cannot_have_its_name_is_no_old_one_that_is_missing(tmp_path: Path) -> None:
    fill(tmp_path / "new", "new")
    with pytest.raises(OSError, match="Invalid argument"):
        publish(tmp_path / "new", tmp_path / "new" / "below" / "out")
    assert content_of(tmp_path / "new") == "new"


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    """Here because it is moved into itself, which no system allows."""
    fill(tmp_path / "out", "old")
    with pytest.raises(OSError, match=r"."):
        publish(tmp_path / "out" / "below", tmp_path / "out", force=True)
    assert content_of(tmp_path / "out") == "old"


# Kills. The script is one process that forks a child for every step, which ends at that step as if killed.
KILLS = """
import json, os, sys, warnings
from pathlib import Path
from manylabel.system.atomic_write import new_folder

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"}
warnings.simplefilter("ignore")  # Python 3.12 warns of every fork
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
    with new_folder(target, force=force) as folder:
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
    with new_folder(target, force=True) as folder:
        fill(folder, "again")
    left = sorted(path.name for path in target.parent.iterdir())
    found.append({"exit": code, "kept": kept, "left": left, "again": (target / "file").read_text()})
print(json.dumps(found))
"""


@pytest.mark.parametrize("force", [False, True])
def test_whoever_is_killed_leaves_the_old_folder_or_none_or_the_new_one(
    tmp_path: Path, python: Python, force: bool
) -> None:
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
