"""Files on a local disk: listed, read, written atomically, and removed."""

import os
from pathlib import Path

import pytest

from manylabel.data import filesystem
from manylabel.errors import DataError, InputError


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("a", "a/x"),
        ("a/b/", "a/b/x"),
        ("/", "/x"),
        ("what?", "what?/x"),
        ("s3://bucket/key/", "s3://bucket/key/x"),
        ("s3://bucket/key?region=eu", "s3://bucket/key/x?region=eu"),
    ],
)
def test_uri_query_stays_behind_the_file_name(folder: str, expected: str) -> None:
    assert filesystem.join(folder, "x") == expected


def test_missing_file_has_no_status_or_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    found = filesystem.status(str(tmp_path / "file"))
    assert found == filesystem.FileStatus(4, (tmp_path / "file").stat().st_mtime_ns)
    for name in ("none", "file/below"):
        assert filesystem.status(str(tmp_path / name)) is None
        assert filesystem.read_bytes(str(tmp_path / name)) is None
    with pytest.raises(DataError) as caught:
        filesystem.open_input(str(tmp_path / "none"))
    assert str(caught.value) == f"{tmp_path / 'none'} cannot be read: No such file or directory."


def test_invalid_path_error(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").touch()
    for name, hint in (
        ("review.csv", f" Did you mean '{tmp_path / 'reviews.csv'}'?"),
        ("*.tsv", " Check the path, and put a glob in quotes."),
    ):
        with pytest.raises(DataError) as caught:
            filesystem.expand(str(tmp_path / name))
        assert str(caught.value) == f"{tmp_path / name}: no file found.{hint}"


def test_relative_globs_and_literal_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.csv", "a.csv", "[1].csv", ".c.csv", "_d.csv"):
        Path(name).touch()
    assert filesystem.expand("?.csv") == ["a.csv", "b.csv"]
    assert filesystem.expand("[1].csv") == ["[1].csv"]
    assert filesystem.expand(".c.csv") == [".c.csv"]  # named explicitly


def test_file_write_is_atomic(tmp_path: Path) -> None:
    target = tmp_path / "file"
    filesystem.write_bytes(str(target), b"old")
    with pytest.raises(AttributeError), filesystem.new_file(str(target)) as path:
        path.write_bytes(b"half").fail()  # type: ignore[attr-defined]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"
    with filesystem.new_file(str(target)) as path:
        path.write_bytes(b"new")
        assert (path.parent, target.read_bytes()) == (tmp_path, b"old")
    assert target.read_bytes() == b"new"


def test_remove_existing_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for name in ("folder/below/x", "file"):
        (tmp_path / name).touch()
    for name in ("folder", "file", "file", "none/below"):
        filesystem.remove(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_cleanup_removes_partial_files_only(tmp_path: Path) -> None:
    for name in (".part.1.tmp", ".hidden", "mine.tmp"):
        (tmp_path / name).touch()
    filesystem.remove_temporaries(str(tmp_path))
    assert sorted(each.name for each in tmp_path.iterdir()) == [".hidden", "mine.tmp"]


def test_create_folder_with_parents(tmp_path: Path) -> None:
    for _ in range(2):
        filesystem.make_folder(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        filesystem.make_folder(str(tmp_path / "file" / "below"))
    assert (
        str(caught.value) == f"{tmp_path / 'file' / 'below'} cannot be created: Not a directory. Choose another output."
    )


def test_local_and_uri_paths_are_equivalent(tmp_path: Path) -> None:
    """`file://` is the local disk, addressed as an object store is."""
    store = f"file://{tmp_path}"
    for name in ("b1/x.csv", "b1/y.csv", "a2/x.csv", "b1/.hidden", "b1/_log", "_logs/x.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        filesystem.write_bytes(f"{store}/{name}", name.encode())
        assert (tmp_path / name).read_bytes() == name.encode()
    assert filesystem.read_bytes(f"{store}/a2/x.csv") == b"a2/x.csv"
    assert filesystem.status(f"{store}/a2/x.csv") == filesystem.status(str(tmp_path / "a2" / "x.csv"))
    for named, expected in (
        ("b1", ["b1/x.csv", "b1/y.csv"]),
        ("b1/y.csv", ["b1/y.csv"]),
        ("*/x.csv", ["a2/x.csv", "b1/x.csv"]),
        ("b*/[xy].*", ["b1/x.csv", "b1/y.csv"]),
    ):
        assert filesystem.expand(f"{store}/{named}") == [f"{store}/{name}" for name in expected]
    with pytest.raises(DataError) as caught:
        filesystem.expand(f"{store}/none")
    assert str(caught.value) == (f"{store}/none: no file found. Check the path, and put a glob in quotes.")
    filesystem.remove(f"{store}/b1/y.csv")
    filesystem.remove(f"{store}/a2")
    filesystem.remove(f"{store}/none")
    assert filesystem.expand(store) == [f"{store}/b1/x.csv"]
    assert filesystem.status(f"{store}/a2") is None
    assert filesystem.read_bytes(f"{store}/none") is None
    with pytest.raises(DataError, match="/none cannot be read: "):
        filesystem.open_input(f"{store}/none")


def test_globs_match_whole_folders(tmp_path: Path) -> None:
    for name in ("a/x.csv", "a/b/x.csv", "a/b/c/x.csv", "a/.b/x.csv", "a/_b/x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern, expected in (
        ("a/*.csv", ["a/x.csv"]),
        ("a/*/x.csv", ["a/b/x.csv"]),
        ("a/**/x.csv", ["a/b/c/x.csv", "a/b/x.csv", "a/x.csv"]),
        ("**/c/*", ["a/b/c/x.csv"]),
        ("a/**", ["a/b/c/x.csv", "a/b/x.csv", "a/x.csv"]),
        ("a/", ["a/b/c/x.csv", "a/b/x.csv", "a/x.csv"]),
    ):
        assert filesystem.expand(f"{tmp_path}/{pattern}") == [str(tmp_path / name) for name in expected], pattern
        assert filesystem.expand(f"file://{tmp_path}/{pattern}") == [f"file://{tmp_path}/{name}" for name in expected]


def test_linked_folders_are_listed_once(tmp_path: Path) -> None:
    """A link to a parent folder would otherwise list every file again, until the path is too long."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.csv").touch()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert filesystem.expand(str(tmp_path / "in")) == [str(tmp_path / "in" / "x.csv")]


def test_hidden_parent_folders_do_not_hide_files(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.csv").touch()
    for pattern in ("*.csv", ""):
        assert filesystem.expand(str(tmp_path / ".cache" / pattern)) == [str(tmp_path / ".cache" / "x.csv")]


def test_globs_name_each_file_once(tmp_path: Path) -> None:
    for name in ("x.csv", "b/x.csv", "b/b/x.csv"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    every = [f"{tmp_path}/a/{name}" for name in ("b/b/x.csv", "b/x.csv", "x.csv")]
    for pattern, expected in (
        ("a/**/**", every),
        ("a/**/b/**", every[:2]),
        ("a//*.csv", every[2:]),
        ("*/./x.csv", every[2:]),
        ("*//x.csv", every[2:]),
        ("a/*/", every[2:]),
    ):
        assert filesystem.expand(f"{tmp_path}/{pattern}") == expected, pattern


def test_links_to_folders_are_followed_where_they_are_named(tmp_path: Path) -> None:
    for name in ("in/a.csv", "in/below/b.csv", "outside/c.csv", "outside/below/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for link, target in (
        ("in/file.csv", "../outside/c.csv"),
        ("in/folder", "../outside"),
        ("in/below/cycle", ".."),
        ("in/nowhere.csv", "missing.csv"),
        ("in/itself.csv", "itself.csv"),
        ("linked", "in"),
    ):
        (tmp_path / link).symlink_to(target)
    own = ["a.csv", "below/b.csv", "file.csv"]
    for named, expected in (
        ("in", [f"in/{name}" for name in own]),
        ("in/**/*.csv", [f"in/{name}" for name in own]),
        ("linked", [f"linked/{name}" for name in own]),
        ("in/folder", ["in/folder/below/d.csv", "in/folder/c.csv"]),
        ("in/*/*.csv", ["in/below/b.csv", "in/folder/c.csv"]),
        ("in/below/c*/*.csv", ["in/below/cycle/a.csv", "in/below/cycle/file.csv"]),
        ("in/f*/**/*.csv", ["in/folder/below/d.csv", "in/folder/c.csv"]),
    ):
        assert filesystem.expand(f"{tmp_path}/{named}") == [f"{tmp_path}/{name}" for name in expected], named


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(DataError) as caught:
        filesystem.expand(str(pipe))
    expected = f"{pipe} is a pipe or a device. Write its content to a file, or give it as standard input (-)."
    assert str(caught.value) == expected
