"""Frames of any library get the columns that the command line adds to a file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.helpers.toy import TEXTS
from tests.runtime.conftest import Python
from tests.runtime.scoring.conftest import ScoreHere

from manylabel import Classifier
from manylabel.errors import DataError, InputError, UnknownLabel

FRAME = pa.table({"id": range(9000), "text": [None if n % 70 == 9 else f"{TEXTS[n % 60]} {n}" for n in range(9000)]})


def test_frame_matches_the_command_line(classifier: Classifier, tmp_path: Path, score_here: ScoreHere) -> None:
    """Bit for bit, over several blocks."""
    pq.write_table(FRAME, tmp_path / "rows.parquet")
    score_here(tmp_path / "rows.parquet", output=tmp_path / "out.parquet")
    expected, found = pq.read_table(tmp_path / "out.parquet"), classifier.predict_frame(FRAME)
    assert found.schema == expected.schema
    assert found.drop_columns("error").equals(expected.drop_columns("error"))
    assert found["error"].is_null().equals(expected["error"].is_null())
    assert set(found["error"].drop_null().to_pylist()) == {"no text: 'text' is null."}


def test_frame_options_match_the_command_line(classifier: Classifier, tmp_path: Path, score_here: ScoreHere) -> None:
    frame = FRAME.slice(0, 100).rename_columns(["error", "words"])
    pq.write_table(frame, tmp_path / "rows.parquet")
    form: dict[str, Any] = {"probabilities": "list", "prefix": "x_"}
    score_here(
        tmp_path / "rows.parquet", output=tmp_path / "out.parquet", text_column="words", thresholds=(0.2,) * 4, **form
    )
    expected = pq.read_table(tmp_path / "out.parquet")
    found = classifier.predict_frame(frame, "words", thresholds=0.2, **form)
    assert found.drop_columns("x_error").equals(expected.drop_columns("x_error"))
    assert classifier.predict_frame(frame, "words", probabilities="none", prefix="x_").column_names == [
        "error", "words", "x_labels", "x_n_tokens", "x_truncated", "x_error"
    ]  # fmt: skip


class ArrowExporter:
    """A frame of another library, with a single method to export its columns."""

    def __init__(self, table: Any, how: str) -> None:
        setattr(type(self), how, staticmethod(getattr(table, how)))


@pytest.mark.parametrize("how", ["__arrow_c_stream__", "__arrow_c_array__", "__dataframe__"])
def test_any_arrow_object_is_a_frame(classifier: Classifier, how: str) -> None:
    whole = FRAME.slice(0, 50)
    owner = whole.to_batches()[0] if how == "__arrow_c_array__" else whole
    found = classifier.predict_frame(type("Other", (ArrowExporter,), {})(owner, how))
    assert found["p_price"].to_pylist() == classifier.predict_frame(whole)["p_price"].to_pylist()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_frame_texts_of_any_string_type(classifier: Classifier, kind: Any) -> None:
    texts = FRAME["text"].slice(0, 50).combine_chunks()
    given = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    found = classifier.predict_frame(pa.table({"text": given}))
    assert found.schema.field("text").type == given.type
    assert found["labels"].to_pylist() == classifier.predict_frame(FRAME.slice(0, 50))["labels"].to_pylist()


def test_empty_frame_has_the_same_columns(classifier: Classifier) -> None:
    columns = classifier.predict_frame(FRAME.slice(0, 5)).column_names
    assert classifier.predict_frame(FRAME.slice(0, 0)).column_names == columns
    found = classifier.predict_frame(pa.table({"id": [1, 2], "text": pa.nulls(2)}))
    assert (found.column_names, found["error"].null_count) == (columns, 0)


def test_frame_errors(classifier: Classifier) -> None:
    for frame, sentence in (
        (
            ["late"],
            r"^a list is not a frame that supports Arrow\. Pass one of pandas, polars, DuckDB or pyarrow; collect a "
            r"lazy one first\.$",
        ),
        (FRAME.rename_columns(["id", "words"]), "no column 'text'; it has 'id', 'words'"),
        (pa.table({"text": [1]}), r"'text' is int64, not string\. Name another, or convert it\.$"),
        (FRAME.rename_columns(["n_tokens", "text"]), "already has columns named 'n_tokens'"),
    ):
        with pytest.raises(DataError, match=sentence):
            classifier.predict_frame(frame)
    with pytest.raises(UnknownLabel):
        classifier.predict_frame(FRAME, thresholds={"nothing": 0.5})
    with pytest.raises(InputError, match="between 0 and 1"):
        classifier.predict_frame(FRAME, thresholds=2.0)


def test_frames_need_pyarrow(bundle: Path, python: Python) -> None:
    done = python(
        "import sys\n"
        "from importlib import util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'pyarrow' else find(name, *rest)\n"
        "from manylabel import Classifier, MissingDependency\n"
        "try:\n"
        "    Classifier.load(sys.argv[1], device='cpu').predict_frame(None)\n"
        "except MissingDependency as exc:\n"
        "    print(exc)",
        bundle,
    )
    assert done.stdout.strip().endswith('pip install "manylabel[files,cpu]"'), done.stderr
