"""Rows of files, whatever their format, and what is wrong with them, said with its place."""

from pathlib import Path

import pytest

from manylabel.data.cell_validation import check_labels, parse_indicator, parse_labels, parse_split
from manylabel.data.readers.open_table import read_rows
from manylabel.errors import DataError


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.csv", b'\xef\xbb\xbftext,labels\n"late,\nand rude",a|b\n\ngood,\n', ["a.csv, line 2", "a.csv, line 5"]),
        ("a.tsv", b"text\tlabels\nlate,\ta|b\n", ["a.tsv, line 2"]),
        ("a.jsonl", b'\n{"text": "late", "labels": ["a"]}\n{"text": "good"}', ["a.jsonl, line 2", "a.jsonl, line 3"]),
    ],
)
def test_row_has_its_location(tmp_path: Path, name: str, content: bytes, places: list[str]) -> None:
    rows = read_rows(written(tmp_path, name, content))
    assert [place for place, _ in rows] == places
    assert [row["text"][:4] for _, row in rows] == ["late", "good"][: len(rows)]


def test_parquet_rows_are_counted_across_batches(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["late", "good"], "labels": [["a"], []]}), path)
    assert read_rows(path) == [
        ("a.parquet, row 1", {"text": "late", "labels": ["a"]}),
        ("a.parquet, row 2", {"text": "good", "labels": []}),
    ]
    with pytest.raises(DataError, match=r"broken\.parquet is not a Parquet file"):
        read_rows(written(tmp_path, "broken.parquet", b"PAR1 and no more"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"late", "none of the suffixes"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"text,labels\n", "holds no rows"),
        ("a.csv", b"text,text\nlate,late\n", "more than one column named 'text'"),
        ("a.csv", b"text,labels\nlate,a\nlate, and rude,a\n", "line 3: found 3 fields where the header has 2"),
        ("a.csv", b'text,labels\n"late"x,a\n', "line 2: not valid CSV"),
        ("a.csv", b"text,labels\nlate,a\nsp\xe4t,a\n", "line 3: not UTF-8"),
        ("a.jsonl", b'{"text": "late"}\n{"text": \n', "line 2: not valid JSON"),
        ("a.jsonl", b'["late"]\n', "line 1: expected an object such as"),
    ],
)
def test_read_error_has_its_location(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_rows(written(tmp_path, name, content))


def test_folder_or_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is a folder"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "none.csv")


def test_cell_formats() -> None:
    assert [parse_split(each, "row 1") for each in (None, "", " Train ")] == ["", "", "train"]
    assert parse_labels(" a | b", "labels", "|", "row 1") == ["a", "b"]
    assert parse_labels("  ", "labels", "|", "row 1") == []
    assert [parse_indicator(each, "a", "row 1") for each in ("1", 1.0, "True", 0, "0.0", None, "", "nan")] == [
        *[True] * 3,
        *[False] * 2,
        *[None] * 3,
    ]


def test_invalid_cells_are_rejected() -> None:
    with pytest.raises(DataError, match="row 1: split 'holdout' is unknown; expected one of train,"):
        parse_split("holdout", "row 1")
    for value in (3, ["a", ""], "a||b"):
        with pytest.raises(DataError, match="row 1: 'labels' holds"):
            parse_labels(value, "labels", "|", "row 1")
    with pytest.raises(DataError, match="expected 0 or 1"):
        parse_indicator("2", "a", "row 1")
    for labels in (["a", "a"], [" "], ["a\nb"]):
        with pytest.raises(DataError, match="label"):
            check_labels(labels)
