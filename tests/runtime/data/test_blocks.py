"""Blocks of rows: every row comes back as it was written, and a bad row is an error of its own, with its line."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel.data.readers import block as blocks
from manylabel.data.readers import table
from manylabel.data.readers.open_table import Source
from manylabel.data.readers.type_inference import cast_columns
from manylabel.errors import DataError
from manylabel.scoring.planner import ShardPlan, find_sources, plan_shards, read_shard

CELLS = st.text(
    alphabet=st.one_of(st.sampled_from('",\n\r\t ab=\0é💥\ufeff'), st.characters(exclude_categories=["Cs"])),
    max_size=12,
)
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False, allow_infinity=False),
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CELLS, inner, max_size=3)),
    max_leaves=4,
)  # fmt: skip


def plan_files(*paths: Path, shard_rows: int = 3, text_column: str = "text") -> ShardPlan:
    sources = find_sources([str(path) for path in paths], format=None, spool="")
    return plan_shards(sources, text_column=text_column, shard_rows=shard_rows, progress=lambda rows: None)


def read(
    found: ShardPlan, text_column: str = "text"
) -> tuple[list[dict[str, Any]], list[str | None], list[str | None]]:
    """Return the columns, texts and errors of all rows, shard by shard."""
    rows: list[dict[str, Any]] = []
    texts: list[str | None] = []
    errors: list[str | None] = []
    for shard in found.shards:
        of_shard = [*read_shard(found.inputs[shard.file], shard, text_column)]
        assert sum(map(len, of_shard)) == shard.rows
        assert shard.first == len(rows)
        for block in of_shard:
            rows += block.columns.to_pylist()
            texts += block.texts
            errors += [block.errors.get(place) for place in range(len(block))]
    assert len(rows) == found.rows
    return rows, texts, errors


def blocks_of(found: ShardPlan) -> list[blocks.Block]:
    return [block for shard in found.shards for block in read_shard(found.inputs[shard.file], shard, "text")]


def write_csv(path: Path, rows: Sequence[Sequence[str]], *, end: str = "\r\n", tab: bool = False) -> Path:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end, delimiter="\t" if tab else ",", quoting=csv.QUOTE_ALL)
    writer.writerows(rows)
    path.write_bytes(buffer.getvalue().encode())
    return path


# Round trips


@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    tab=st.booleans(),
    mark=st.booleans(),
    shard_rows=st.integers(1, 5),
)
def test_csv_cells_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, end: str, tab: bool, mark: bool, shard_rows: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / ("x.tsv" if tab else "x.csv")
    write_csv(path, [("id", "text", "other col"), *rows], end=end, tab=tab)
    if mark:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found, texts, errors = read(plan_files(path, shard_rows=shard_rows))
    assert [tuple(row.values()) for row in found] == rows
    assert texts == [row[1] for row in rows]
    assert not any(errors)


@given(
    rows=st.lists(
        st.fixed_dictionaries({"text": CELLS}, optional={"a": JSON_VALUES, "b": JSON_VALUES, "": CELLS}), max_size=8
    ),
    shard_rows=st.integers(1, 5),
)
def test_jsonl_values_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], shard_rows: int
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = plan_files(path, shard_rows=shard_rows)
    found, texts, errors = read(plan)
    as_json = {field.name for field in plan.schema if field.metadata}
    for row, expected in zip(found, rows, strict=True):
        for name, value in row.items():
            given_back = json.loads(value) if name in as_json and value is not None else value
            assert given_back == expected.get(name)
    assert texts == [row["text"] for row in rows]
    assert not any(errors)


@given(rows=st.integers(0, 40), group=st.integers(1, 15), shard_rows=st.integers(1, 20))
def test_parquet_rows_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, shard_rows: int
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    numbers = list(range(rows))
    table = pa.table(
        {
            "text": pa.array([f"text {n}" for n in numbers], pa.string()).dictionary_encode(),
            "n": pa.array(numbers, pa.int32()),
            "tags": pa.array([[str(n)] for n in numbers], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, path, row_group_size=group)
    found, texts, errors = read(plan_files(path, shard_rows=shard_rows))
    assert found == [{"text": f"text {n}", "n": n, "tags": [str(n)]} for n in numbers]
    assert texts == [f"text {n}" for n in numbers]
    assert not any(errors)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, None], "null"),
        ([None, "a"], "string"),
        ([True, False], "bool"),
        ([1, None], "int64"),
        ([2**63 - 1, -(2**63)], "int64"),
        ([2**63], "JSON"),
        ([-(2**63) - 1], "JSON"),
        ([2**53, 0.5], "double"),
        ([-(2**53), 0.5], "double"),
        ([2**53 + 1, 0.5], "JSON"),
        ([0.5, None], "double"),
        ([True, 1], "JSON"),
        (["1", 1], "JSON"),
        ([{"a": 1}, None], "JSON"),
    ],
)
def test_column_type_holds_all_values_exactly(tmp_path: Path, values: list[Any], kind: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": "late", "n": value}) + "\n" for value in values))
    plan = plan_files(path)
    field = plan.schema.field("n")
    assert ("JSON" if field.metadata else str(field.type)) == kind
    found = [row["n"] for row in read(plan)[0]]
    assert [json.loads(value) if field.metadata and value else value for value in found] == values


def test_missing_columns_are_null(tmp_path: Path) -> None:
    for name, row in (("a", {"n": None}), ("b", {"n": 1}), ("c", {"n": 0.5}), ("d", {"m": True}), ("e", {"n": None})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name, **row}) + "\n")
    plan = plan_files(*(tmp_path / f"{name}.jsonl" for name in "abcde"))
    assert [(field.name, str(field.type)) for field in plan.schema] == [
        ("text", "string"), ("n", "double"), ("m", "bool")
    ]  # fmt: skip
    found = [cast_columns(block.columns, plan.schema) for block in blocks_of(plan)]
    assert [[column.to_pylist() for column in each] for each in found] == [
        [["a"], [None], [None]], [["b"], [1.0], [None]], [["c"], [0.5], [None]], [["d"], [None], [True]],
        [["e"], [None], [None]],
    ]  # fmt: skip


def test_bom_only_at_the_start_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\ufefftext,n\n\ufefflate,1\ngood,2\n".encode())
    for shard_rows in (1, 9):
        rows, texts, _ = read(plan_files(path, shard_rows=shard_rows))
        assert texts == ["\ufefflate", "good"]
        assert [*rows[0]] == ["text", "n"]


def test_mixed_column_is_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "a", "n": "1"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "b", "n": "1"}\n')
    with pytest.raises(DataError, match=r"the column 'n' is JSON in .*a\.jsonl and string in .*b\.jsonl\."):
        plan_files(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert plan_files(tmp_path / "a.jsonl", tmp_path / "a.jsonl").schema.field("n").metadata


# Bad rows


def test_bad_csv_row_is_one_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        b'id,text\n1,fine\n2,"two\nlines"\n3\n4,a,b\n\n5,caf\xe9\n6,"a "quote" within"\n7,a\rb\n8,"tail","\n9,last\n'
    )
    for shard_rows in (1, 2, 100):
        rows, texts, errors = read(plan_files(path, shard_rows=shard_rows))
        assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", None, None, None, "9"]
        assert texts == ["fine", "two\nlines", None, None, None, None, None, None, "last"]
        messages = [error for error in errors if error]
        for error, line, why in zip(
            messages,
            (5, 6, 8, 9, 10, 11),
            (
                "found 1 fields where the header has 2",
                "found 3 fields",
                "not UTF-8",
                "not valid CSV",
                "new-line",
                "unexpected end",
            ),
            strict=True,
        ):
            assert f"x.csv, line {line}: " in error
            assert why in error


def test_blocks_are_limited_by_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {n}" for n in range(10)]
    write_csv(tmp_path / "x.csv", [("text",), *[(text,) for text in texts]])
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    for limits, sizes in (
        ({"BLOCK_ROWS": 4}, {"csv": [4, 4, 2], "jsonl": [4, 4, 2]}),
        ({"BLOCK_BYTES": 25}, {"csv": [3, 3, 3, 1], "jsonl": [2, 2, 2, 2, 2]}),  # rows of 10 and of 19 bytes
        ({}, {"csv": [10], "jsonl": [10], "parquet": [10]}),
    ):
        with monkeypatch.context() as patched:
            for name, limit in limits.items():
                patched.setattr(blocks, name, limit)
            for suffix, expected in sizes.items():
                found = blocks_of(plan_files(tmp_path / f"x.{suffix}", shard_rows=100))
                assert [len(block) for block in found] == expected
                assert [text for block in found for text in block.texts] == texts


def test_large_parquet_batches_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [str(n) * 100 for n in range(10)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 320)
    found = blocks_of(plan_files(tmp_path / "x.parquet", shard_rows=100))
    assert [len(block) for block in found] == [2, 3, 2, 3]  # of 100 bytes, and 4 for each end
    assert [text for block in found for text in block.texts] == texts


def test_unclosed_quote_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not hold the rest of the file in memory, either."""
    monkeypatch.setattr(table, "ROW_BYTES", 200)
    path = tmp_path / "x.csv"
    path.write_text('id,text\n0,"open\n' + "".join(f"{n},row {n}\n" for n in range(1, 100)))
    rows, texts, errors = read(plan_files(path))
    assert [row["id"] for row in rows] == [None, *map(str, range(1, 100))]
    assert texts[1:] == [f"row {n}" for n in range(1, 100)]
    assert "line 2: a row of more than" in (errors[0] or "")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_giant_row_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(table, "ROW_BYTES", 1000)
    path = tmp_path / f"x.{suffix}"
    big, small = ("x" * 5000, "late") if suffix == "csv" else ('{"text": "' + "x" * 5000 + '"}', '{"text": "late"}')
    path.write_text(("text\n" if suffix == "csv" else "") + "\n".join([small, big, small, small, big]) + "\n")
    for shard_rows in (1, 2, 9):
        _, texts, errors = read(plan_files(path, shard_rows=shard_rows))
        assert texts == ["late", None, "late", "late", None]
        assert [bool(error) for error in errors] == [False, True, False, False, True]


def test_long_texts_are_read(tmp_path: Path) -> None:
    long = "word " * 400_000
    path = write_csv(tmp_path / "x.csv", [("text",), (long,), ("late",)])
    _, texts, errors = read(plan_files(path, shard_rows=10))
    assert texts == [long, "late"]
    assert not any(errors)
    assert len(long) < table.ROW_BYTES


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected an object"),
        ('{"other": 1}', "the field 'text' is missing"),
        ('{"text": null}', "'text' is null"),
        ('{"text": 3}', "'text' is int, not a string"),
        ('{"text": "a", "n": NaN}', "NaN is not a number"),
        ('{"text": "a", "n": 1e999}', "1e999 is not a number"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_invalid_json_line_is_one_error(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine"}\n\n' + line + '\n{"text": "late"}')
    _, texts, errors = read(plan_files(path))
    assert texts == ["fine", None, "late"]
    assert why in (errors[1] or "")
    assert errors[0] is errors[2] is None


def test_invalid_utf8_in_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "caf\xe9"}\n{"text": "\\ud800 late"}\n')
    rows, texts, errors = read(plan_files(path))
    assert "line 1: not UTF-8" in (errors[0] or "")
    assert texts[1] == "\ud800 late"
    assert rows[1]["text"] == "\ufffd late"


def test_parquet_null_error_has_its_row(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a", None, "b"]}), path)
    _, texts, errors = read(plan_files(path, shard_rows=2))
    assert texts == ["a", None, "b"]
    assert errors[1] == "x.parquet, row 2: no text: 'text' is null."


# Unusable files


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.csv", b"", "is empty; its first line should name the columns"),
        ("x.csv", b"a,b\n1,2\n", "x.csv has no column 'text'; it has 'a', 'b'"),
        ("x.csv", b"b,text,text,a,b\n", r"x.csv has more than one column named 'b', 'text'\. Rename or remove one\.$"),
        ("x.csv", b"caf\xe9,text\n", "line 1: not UTF-8. Save the file as UTF-8. The header cannot be read"),
        ("x.jsonl", b'{"a": 1}\n', "x.jsonl has no column 'text'; it has 'a'"),
        ("x.parquet", b"no", "not a Parquet file that can be read"),
        ("x.csv.gz", b"no gzip", "is damaged"),
        ("x.csv.zst", b"no zstd", "is damaged|cannot be read"),
        ("x.csv.xz", b"no xz", "is damaged"),
        (
            "x.docx",
            b"",
            r"x.docx has none of the suffixes .csv, .tsv, .jsonl, .parquet, .ndjson, .pq, optionally followed by .gz, "
            r".bz2, .xz, .zst. Convert it to one of these formats\. Or name its format with --format\.$",
        ),
        ("x.parquet.gz", b"", "Parquet compresses within"),
    ],
)
def test_unreadable_file_is_rejected(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        plan_files(tmp_path / name)


def test_numeric_parquet_text_column_is_rejected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="the column 'text' is int64, not string"):
        plan_files(tmp_path / "x.parquet")


def test_truncated_gzip_is_rejected_before_scoring(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + b"late\n" * 10_000)[:-20])
    with pytest.raises(DataError, match="is damaged"):
        plan_files(path)


def test_schemas_are_unified_or_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"m": true, "text": "b", "n": 0.5}\n')
    plan = plan_files(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert [(field.name, str(field.type)) for field in plan.schema] == [
        ("text", "string"), ("n", "double"), ("m", "bool")
    ]  # fmt: skip
    (tmp_path / "c.jsonl").write_text('{"text": "c", "m": "yes"}\n')
    with pytest.raises(DataError) as caught:
        plan_files(tmp_path / "b.jsonl", tmp_path / "c.jsonl")
    assert str(caught.value) == (
        f"the column 'm' is bool in {tmp_path / 'b.jsonl'} and string in {tmp_path / 'c.jsonl'}. "
        "Score these files separately, or give the column one type."
    )


def test_file_change_during_job_is_detected(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", [("text",), ("a",), ("b",)])
    plan = plan_files(path)
    write_csv(path, [("text",), ("a",), ("b",), ("c",)])
    with pytest.raises(DataError, match="was changed while it was being scored"):
        read(plan)


def test_reading_starts_at_the_shard_offset(tmp_path: Path) -> None:
    """The bytes before that offset may be anything."""
    path = write_csv(tmp_path / "x.csv", [("text",), *[(f"row {n}",) for n in range(10)]])
    plan = plan_files(path, shard_rows=4)
    start = plan.shards[2].start
    path.write_bytes(b"\xff" * start.offset + path.read_bytes()[start.offset :])
    (block,) = blocks.read_blocks(Source(str(path), "csv"), plan.inputs[0].schema, "text", start)
    assert block.texts == ["row 8", "row 9"]
    assert start.line == 10
