"""Rows of CSV, TSV, JSON lines and Parquet files with their location, and errors that name it."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.conftest import Python

from manylabel.data.cell_validation import check_labels, escape_formula, parse_indicator, parse_labels, parse_split
from manylabel.data.readers.open_table import open_table, read_rows
from manylabel.errors import DataError, InputError


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "locations"),
    [
        ("a.csv", b'\xef\xbb\xbftext,labels\n"late,\nand rude",a|b\n\ngood,\n', ["a.csv, line 2", "a.csv, line 5"]),
        ("a.csv", b"text,labels\rlate,a\rgood,\r", ["a.csv, line 2", "a.csv, line 3"]),
        ("a.tsv", b"text\tlabels\nlate,\ta|b\n", ["a.tsv, line 2"]),
        ("a.jsonl", b'\n{"text": "late", "labels": ["a"]}\n{"text": "good"}', ["a.jsonl, line 2", "a.jsonl, line 3"]),
    ],
)
def test_row_has_its_location(tmp_path: Path, name: str, content: bytes, locations: list[str]) -> None:
    rows = read_rows(written(tmp_path, name, content))
    assert [location for location, _ in rows] == locations
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
    ("name", "content", "message"),
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
def test_read_error_has_its_location(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
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


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_rows_are_read(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = written(tmp_path, f"a.csv{suffix}", compress(b"text,labels\nlate,a\n"))
    assert read_rows(path) == [(f"a.csv{suffix}, line 2", {"text": "late", "labels": "a"})]


def test_stream_of_rows_needs_a_format() -> None:
    with open_table(io.BytesIO(b'{"text": "late"}\n'), format="jsonl") as table:
        assert [(row.location, row.values) for row in table] == [("the stream, line 1", {"text": "late"})]
    with pytest.raises(InputError, match="a stream has no suffix"), open_table(io.BytesIO()):
        pass


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_numbers_of_a_table(tmp_path: Path, suffix: str) -> None:
    content = {"csv": b"p,q\n0.25,\n1,0.5\n", "jsonl": b'{"p": 0.25, "q": null}\n{"p": 1, "q": 0.5}\n'}
    if suffix == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"p": [0.25, 1], "q": [None, 0.5]}), tmp_path / "a.parquet")
    else:
        written(tmp_path, f"a.{suffix}", content[suffix])
    with open_table(tmp_path / f"a.{suffix}") as table:
        (numbers,) = table.read_numbers(["q", "p"])
    np.testing.assert_array_equal(numbers, np.array([[np.nan, 0.25], [0.5, 1]], dtype=np.float32))
    with (
        open_table(tmp_path / f"a.{suffix}") as table,
        pytest.raises(DataError, match=r"has no column 'r', one of 2 that are needed\. Score again\."),
    ):
        list(table.read_numbers(["p", "r"], hint="Score again."))


def test_cell_that_is_not_a_number_is_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", b"p\nmuch\n")
    with open_table(path) as table, pytest.raises(DataError, match=r"a\.csv, line 2: 'p' is 'much'; expected a number"):
        list(table.read_numbers(["p"]))


def test_text_formats_are_read_without_pyarrow(tmp_path: Path, python: Python) -> None:
    for name, content in (("a.csv", b"text\nlate\n"), ("a.jsonl", b'{"text": "late"}\n'), ("a.parquet", b"PAR1")):
        written(tmp_path, name, content)
    done = python(
        "import sys\n"
        "from importlib import util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'pyarrow' else find(name, *rest)\n"
        "from pathlib import Path\n"
        "from manylabel import MissingDependency\n"
        "from manylabel.data.readers.open_table import read_rows\n"
        "for name in ('a.csv', 'a.jsonl', 'a.parquet'):\n"
        "    try:\n"
        "        print(len(read_rows(Path(sys.argv[1]) / name)))\n"
        "    except MissingDependency as exc:\n"
        "        print(exc)\n"
        "print('pyarrow' in sys.modules)",
        tmp_path,
    )
    missing = 'manylabel[files] is required to read a.parquet. pip install "manylabel[files,cpu]"'
    assert done.stdout.splitlines() == ["1", "1", missing, "False"], done.stderr


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_formula_cells_are_escaped(cell: str) -> None:
    assert escape_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "late", "-2.5", "+49", "-1,5", "1e-3", "a=1", "'=1"])
def test_cells_without_formula_are_not_escaped(cell: str) -> None:
    assert escape_formula(cell) == cell
