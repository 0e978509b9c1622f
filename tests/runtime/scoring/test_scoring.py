"""Scored files: every row once, with the prediction that the library returns."""

import bz2
import csv
import gzip
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.helpers.toy import LABELS, TEXTS
from tests.runtime.conftest import Cli, Python, Resign
from tests.runtime.scoring.conftest import ROWS, Command, ScoreHere, read_jsonl, write_jsonl

from manylabel import Classifier
from manylabel.data.readers import block
from manylabel.errors import DataError, InputError
from manylabel.scoring import writers
from manylabel.scoring.merge import summarize


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Predictions


def test_scored_row_matches_the_library(
    rows: Path, tmp_path: Path, score_here: ScoreHere, classifier: Classifier
) -> None:
    score_here(rows, output=tmp_path / "out.parquet", shard_rows=7)
    found = pq.read_table(tmp_path / "out.parquet")
    names = ["id", "text", "note", "labels", *(f"p_{label}" for label in LABELS), "n_tokens", "truncated", "error"]
    assert found.column_names == names
    predictions = classifier.classify(TEXTS)
    for row, given, prediction in zip(found.to_pylist(), ROWS, predictions, strict=True):
        assert {name: row[name] for name in given} == given
        assert row["labels"] == prediction.labels
        assert {label: row[f"p_{label}"] for label in LABELS} == {label: prediction.scores[label] for label in LABELS}
        assert (row["n_tokens"], row["truncated"], row["error"]) == (prediction.n_tokens, prediction.truncated, None)


@pytest.mark.parametrize("shard_rows", [1, 7, 1000])
def test_output_formats_are_equivalent(rows: Path, tmp_path: Path, score_here: ScoreHere, shard_rows: int) -> None:
    for suffix in ("parquet", "jsonl", "csv"):
        score_here(rows, output=tmp_path / f"out.{suffix}", shard_rows=shard_rows)
    expected = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert read_jsonl(tmp_path / "out.jsonl") == expected
    for row, other in zip(read_csv(tmp_path / "out.csv"), expected, strict=True):
        assert row["labels"] == "|".join(other["labels"])
        assert (row["text"], row["id"], row["note"]) == (other["text"], str(other["id"]), other["note"])
        assert [np.float32(row[f"p_{label}"]) for label in LABELS] == [other[f"p_{label}"] for label in LABELS]


def test_probabilities_option(rows: Path, tmp_path: Path, score_here: ScoreHere) -> None:
    for name, chosen in (("columns", "columns"), ("lists", "list"), ("bare", "none")):
        score_here(rows, output=tmp_path / f"{name}.parquet", probabilities=chosen)
    columns, lists, bare = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("columns", "lists", "bare"))
    assert lists.column("probabilities").to_pylist() == [
        [row[f"p_{label}"] for label in LABELS] for row in columns.to_pylist()
    ]
    assert bare.column_names == ["id", "text", "note", "labels", "n_tokens", "truncated", "error"]
    assert bare.column("labels") == columns.column("labels")


def test_row_with_error_has_no_prediction(tmp_path: Path, score_here: ScoreHere) -> None:
    given: list[Any] = [{"text": "late"}, {"text": None}, {"text": "the parcel"}, {"other": 1}]
    for chosen in ("columns", "list"):
        for suffix in ("parquet", "jsonl", "csv"):
            folder = tmp_path / f"{chosen}-{suffix}"
            folder.mkdir()
            (commit,) = score_here(
                write_jsonl(folder / "rows.jsonl", given), output=folder / f"out.{suffix}", probabilities=chosen
            )
            assert (commit.rows, commit.errors) == (4, 2)
        found = read_jsonl(tmp_path / f"{chosen}-jsonl" / "out.jsonl")
        added = [name for name in found[0] if name not in ("text", "other", "error")]
        for row in (found[1], found[3]):
            assert {row[name] for name in added} == {None}
            assert "no text" in row["error"]
        for row in (found[0], found[2]):
            assert None not in [row[name] for name in added]
            assert row["error"] is None


def test_too_long_text_is_a_row_error(own_bundle: Path, resign: Resign, tmp_path: Path, cli: Cli) -> None:
    """With the policy `"error"`; the other rows are scored."""
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": "late"}, {"text": "late " * 40}, {"text": "good"}])
    result = cli("score", own_bundle, given, "-o", tmp_path / "out.jsonl", "--device", "cpu")
    assert result.exit_code == 4
    found = read_jsonl(tmp_path / "out.jsonl")
    assert [row["error"] for row in found][::2] == [None, None]
    assert found[1]["error"].startswith("TextTooLong: text 1 has 42 tokens; this model reads 32.")


def test_truncation_is_reported(tmp_path: Path, score_here: ScoreHere) -> None:
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": "late"}, {"text": "the parcel was late " * 5000}])
    (commit,) = score_here(given, output=tmp_path / "out.jsonl")
    assert commit.truncated == 1
    assert [row["truncated"] for row in read_jsonl(tmp_path / "out.jsonl")] == [False, True]


def test_long_and_short_rows_keep_their_predictions(
    tmp_path: Path, score_here: ScoreHere, classifier: Classifier
) -> None:
    """Blocks of long rows end by bytes, in the middle of a shard."""
    texts = [("the parcel was late " * (90_000 if n % 7 == 0 else 3)) + TEXTS[n % 60] for n in range(60)]
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    score_here(given, output=tmp_path / "out.parquet", probabilities="list")
    found = pq.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(
        np.array(found.column("probabilities").to_pylist(), dtype=np.float32), classifier.predict_proba(texts)
    )


# Input columns are kept, or refused


def test_json_values_are_kept(tmp_path: Path, score_here: ScoreHere) -> None:
    given = [
        {"text": "late", "mixed": 1, "object": {"a": [1, None, "x"]}, "big": 2**70, "float": 0.1, "flag": True},
        {"text": "good", "mixed": "1", "object": None, "big": 1, "float": 3, "flag": None},
    ]
    score_here(write_jsonl(tmp_path / "rows.jsonl", given), output=tmp_path / "out.jsonl")
    for row, expected in zip(read_jsonl(tmp_path / "out.jsonl"), given, strict=True):
        assert {name: row[name] for name in expected} == expected


def test_parquet_types_to_parquet_and_csv(tmp_path: Path, score_here: ScoreHere) -> None:
    from datetime import datetime

    table = pa.table(
        {
            "text": ["late", "good"],
            "when": pa.array([datetime(2026, 1, 2, 3), None], pa.timestamp("us")),
            "nested": pa.array([{"a": 1}, None], pa.struct([("a", pa.int8())])),
            "bytes": [b"\x00\xff", None],
            "tags": [["a", "b"], []],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    for suffix in ("parquet", "csv", "jsonl"):
        score_here(tmp_path / "rows.parquet", output=tmp_path / f"out.{suffix}")
    assert pq.read_table(tmp_path / "out.parquet").select(table.column_names).equals(table)
    first, second = read_csv(tmp_path / "out.csv")
    assert (first["nested"], first["tags"], first["when"]) == ('{"a": 1}', "a|b", "2026-01-02 03:00:00.000000")
    assert (second["nested"], second["tags"]) == ("", "")
    assert read_jsonl(tmp_path / "out.jsonl")[0]["when"] == "2026-01-02T03:00:00"


def test_values_without_json_type_are_text(tmp_path: Path, score_here: ScoreHere) -> None:
    """NaN and infinity become null, bytes base64, times ISO 8601, decimals text."""
    from datetime import date, time
    from decimal import Decimal

    table = pa.table(
        {
            "text": ["late", "good"],
            "number": [float("nan"), 0.5],
            "nested": [{"a": [float("inf"), 1.0]}, {"a": [2.0, 3.0]}],
            "bytes": [b"\x00\xff", b""],
            "day": [date(2026, 1, 2), None],
            "hour": [time(3, 4), None],
            "price": [Decimal("1.50"), None],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    score_here(tmp_path / "rows.parquet", output=tmp_path / "out.jsonl")
    assert [{name: row[name] for name in table.column_names} for row in read_jsonl(tmp_path / "out.jsonl")] == [
        {
            "text": "late", "number": None, "nested": {"a": [None, 1.0]}, "bytes": "AP8=", "day": "2026-01-02",
            "hour": "03:04:00", "price": "1.50",
        },
        {
            "text": "good", "number": 0.5, "nested": {"a": [2.0, 3.0]}, "bytes": "", "day": None, "hour": None,
            "price": None,
        },
    ]  # fmt: skip


def test_row_groups_are_limited_by_rows_and_bytes(
    rows: Path, tmp_path: Path, score_here: ScoreHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "BLOCK_ROWS", 10)  # a part is written in six pieces
    for name, limit, expected in (("GROUP_ROWS", 25, [25, 5, 25, 5]), ("GROUP_BYTES", 1, [10] * 6), ("", 0, [60])):
        with monkeypatch.context() as patched:
            if name:
                patched.setattr(writers, name, limit)
            score_here(rows, output=tmp_path / f"out{name}")
        (part,) = (tmp_path / f"out{name}").glob("*.parquet")
        found = pq.ParquetFile(part).metadata
        assert [found.row_group(at).num_rows for at in range(found.num_row_groups)] == expected
        assert pq.read_table(part).column("id").to_pylist() == list(range(60))


def test_summary_matches_the_rows(tmp_path: Path, score_here: ScoreHere) -> None:
    texts = ["late", None, "late " * 5000, "a good app", None, "the parcel"]
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    commits = score_here(given, output=tmp_path / "out.jsonl", shard_rows=4)
    found = read_jsonl(tmp_path / "out.jsonl")
    assert summarize(commits) == {
        "rows": 6,
        "errors": 2,
        "truncated": 1,
        "tokens": sum(row["n_tokens"] or 0 for row in found),
        "quarantined": 0,
        "parts": 2,
    }
    assert [(commit.part, commit.first, commit.rows) for commit in commits] == [
        ("part-000000.jsonl", 0, 4), ("part-000001.jsonl", 4, 2)
    ]  # fmt: skip


def test_column_name_conflict_needs_a_prefix(tmp_path: Path, score_here: ScoreHere) -> None:
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": "late", "labels": ["price"], "error": "mine"}])
    with pytest.raises(DataError) as caught:
        score_here(given, output=tmp_path / "out.jsonl")
    assert str(caught.value) == (
        "the input already has columns named 'error', 'labels', like those of the predictions. "
        "Choose other names for the predictions with --prefix, such as --prefix predicted_."
    )
    score_here(given, output=tmp_path / "apart.jsonl", prefix="predicted_")
    (row,) = read_jsonl(tmp_path / "apart.jsonl")
    assert (row["labels"], row["error"], row["predicted_error"]) == (["price"], "mine", None)


def test_formula_cells_are_escaped_on_request(tmp_path: Path, score_here: ScoreHere) -> None:
    cells = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\uff1d1", "-2.5", "+49", "fine", "", "a=1"]
    given = write_jsonl(tmp_path / "rows.jsonl", [{"text": "late", "=head": cell} for cell in cells])
    score_here(given, output=tmp_path / "plain.csv")
    score_here(given, output=tmp_path / "safe.csv", for_spreadsheet=True)
    assert [row["=head"] for row in read_csv(tmp_path / "plain.csv")] == cells
    safe = [row["'=head"] for row in read_csv(tmp_path / "safe.csv")]
    assert safe == [*("'" + cell for cell in cells[:6]), *cells[6:]]


def test_label_containing_separator_is_rejected(rows: Path, tmp_path: Path, score_here: ScoreHere) -> None:
    with pytest.raises(InputError) as caught:
        score_here(rows, output=tmp_path / "out.csv", separator=" ")
    assert str(caught.value) == (
        "the label 'user experience' contains ' ', which separates labels in a CSV cell. Choose another --separator."
    )
    score_here(rows, output=tmp_path / "out.jsonl", separator=" ")  # lists stay lists there


# Inputs


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".gz", lambda content: gzip.compress(content[:1000]) + gzip.compress(content[1000:])),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", lambda content: pa.compress(content, codec="zstd", asbytes=True)),
    ],
)
def test_compressed_files_with_several_shards(
    rows: Path, tmp_path: Path, score_here: ScoreHere, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = tmp_path / f"packed.jsonl{suffix}"
    packed.write_bytes(pack(rows.read_bytes()))
    score_here(packed, output=tmp_path / "out.jsonl", shard_rows=9)
    score_here(rows, output=tmp_path / "plain.jsonl", shard_rows=9)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()


def test_folders_and_globs_are_read_in_order(tmp_path: Path, score_here: ScoreHere) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name, text in (("b.jsonl", "b"), ("a.jsonl", "a"), ("sub/c.jsonl", "c"), (".hidden.jsonl", "no"), ("_log", "")):
        write_jsonl(folder / name, [{"text": text}])
    (tmp_path / "z.csv").write_text("text\nz\n")
    for inputs, expected in (
        ([folder], "abc"),
        ([folder / "*.jsonl"], "ab"),
        ([tmp_path / "z.csv", folder / "**" / "*.jsonl"], "zabc"),
    ):
        output = tmp_path / f"out-{expected}.jsonl"
        score_here(*inputs, output=output)
        assert "".join(row["text"] for row in read_jsonl(output)) == expected
    with pytest.raises(DataError, match="no file found"):
        score_here(tmp_path / "*.tsv", output=tmp_path / "none.jsonl")


def test_stdin_needs_a_format(bundle: Path, tmp_path: Path, command: Command) -> None:
    output = tmp_path / "out"
    done = command(
        "score", bundle, "-", "--format", "csv", "-o", output, "--to", "csv", "--shard-rows", 2,
        stdin=b"text\nlate\ngood\nthe parcel\n",
    )  # fmt: skip
    assert (done["rows"], done["parts"], done["errors"]) == (3, 2, 0)
    assert sorted(path.name for path in output.glob("*.csv")) == ["part-000000.csv", "part-000001.csv"]
    assert not (output / "_manylabel" / "stdin").exists()
    stderr = command("score", bundle, "-", "-o", tmp_path / "other", stdin=b"", code=2)["stderr"]
    assert "standard input has no suffix. Name its format with --format" in stderr


def test_stdin_copy_is_removed(bundle: Path, tmp_path: Path, cli: Cli) -> None:
    given = ("score", bundle, "-", "--format", "jsonl", "--to", "jsonl", "-o", tmp_path / "out")
    done = cli(*given, stdin=b'{"text": "late"}\n{"text": "good"}\n')
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 2)
    assert [row["text"] for row in read_jsonl(tmp_path / "out" / "part-000000.jsonl")] == ["late", "good"]
    assert not (tmp_path / "out" / "_manylabel" / "stdin").exists()


def test_empty_input_gives_empty_output(tmp_path: Path, score_here: ScoreHere) -> None:
    (tmp_path / "x.csv").write_text("id,text\n")
    for suffix in ("parquet", "csv", "jsonl"):
        assert score_here(tmp_path / "x.csv", output=tmp_path / f"out.{suffix}") == []
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
    assert read_csv(tmp_path / "out.csv") == []
    assert (tmp_path / "out.csv").read_text().startswith('"id","text","labels"')


# The command


def test_score_command_summary_and_exit_code(bundle: Path, tmp_path: Path, command: Command) -> None:
    given = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"text": None}])
    done = command("score", bundle, given, "-o", tmp_path / "out.parquet", "--threshold", "0", code=4)
    assert {name: done[name] for name in ("rows", "errors", "quarantined", "rows_resumed", "precision")} == {
        "rows": 61, "errors": 1, "quarantined": 0, "rows_resumed": 0, "precision": "int8",
    }  # fmt: skip
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {len(row["labels"]) for row in found[:60]} == {4}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "rows.jsonl"]
    stderr = command("score", bundle, given, "-o", tmp_path / "out.parquet", code=2)["stderr"]
    assert "OutputExists" in stderr
    again = command("score", bundle, given, "-o", tmp_path / "out.parquet", "--force", "--max-errors", 1)
    assert again["errors"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rows.jsonl", "-o", "no/such/out.csv"], "the folder .* does not exist"),
        (["rows.jsonl", "-o", "rows.jsonl"], "rows.jsonl already exists"),
        (["none.jsonl", "-o", "out"], "none.jsonl: no file found"),
        (["rows.jsonl", "-o", "out", "--text-column", "body"], "has no column 'body'"),
        (
            ["rows.jsonl", "-o", "out", "--for-spreadsheet"],
            r": --for-spreadsheet escapes the cells of a CSV. Name a .csv output, or give --to csv.$",
        ),
        (
            ["rows.jsonl", "-o", "out", "--shard", "0/2"],
            "--shard '0/2' is not I/N with I from 1 to N, for example 3/8.",
        ),
        (["rows.jsonl", "-o", "out", "--shard", "3/2"], "--shard '3/2' is not I/N"),
        (["rows.jsonl", "-o", "out.csv", "--shard", "1/2"], "manylabel merge FOLDER --output"),
        (["rows.jsonl", "-o", "out", "--threshold", "prise=1"], "no label 'prise'"),
        (["rows.jsonl", "-o", "full"], "full holds other files"),
        (["rows.jsonl", "-o", "full/x"], "full/x is a file without"),
    ],
)
def test_usage_error_is_one_sentence(
    bundle: Path, rows: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: Any, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    done = cli("score", bundle, *arguments)
    assert done.exit_code == 2
    assert re.search(sentence, done.stderr), done.stderr
    assert rows.exists()


def test_missing_pyarrow_error_has_install_command(bundle: Path, python: Python) -> None:
    done = python(
        "import sys\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'pyarrow' else find(name, *more)\n"
        "from manylabel.cli.main import main\n"
        "main(['score', 'bundle', 'x.csv', '-o', 'out'])"
    )
    assert done.returncode == 2
    assert 'pip install "manylabel[files' in done.stderr
    assert "Traceback" not in done.stderr
