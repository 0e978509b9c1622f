"""pandas, polars and DuckDB themselves."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conftest import ROOT, ROWS, assert_same_answers

from manylabel import Classifier
from manylabel.errors import DataError

pa = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Classifier:
    return Classifier.load(bundle, device="cpu", threads=2)


def test_pandas_frame_keeps_its_index(classifier: Classifier, expected: Any) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, index=[f"row {n}" for n in range(len(ROWS))])
    found = classifier.predict_frame(frame)
    assert list(found.to_pandas().index) == list(frame.index)
    assert_same_answers(found.drop_columns("__index_level_0__"), expected)


def test_polars_frame_matches_the_command_line(classifier: Classifier, expected: Any) -> None:
    polars = pytest.importorskip("polars")
    found = polars.from_arrow(classifier.predict_frame(polars.DataFrame(ROWS)))
    assert_same_answers(found.to_arrow().cast(expected.schema), expected)
    categories = polars.DataFrame(ROWS).with_columns(polars.col("text").cast(polars.Categorical))
    assert classifier.predict_frame(categories)["labels"].to_pylist() == expected["labels"].to_pylist()
    with pytest.raises(DataError, match="collect a lazy one first"):
        classifier.predict_frame(polars.LazyFrame(ROWS))


def test_duckdb_relation_matches_the_command_line(classifier: Classifier, expected: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = pa.Table.from_pylist(ROWS)
    relation = duckdb.from_arrow(rows).filter("id >= 0")
    assert_same_answers(classifier.predict_frame(relation).cast(expected.schema), expected)


def test_duckdb_example_counts_predicted_labels(classifier: Classifier, bundle: Path) -> None:
    pytest.importorskip("duckdb")
    import csv

    with open(ROOT / "examples" / "reviews.csv", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    counted: dict[str, int] = {}
    for labels in classifier.predict(texts):
        for label in labels:
            counted[label] = counted.get(label, 0) + 1
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "duckdb_function.py", bundle, ROOT / "examples" / "reviews.csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    assert {label: int(count) for count, label in (line.split(maxsplit=1) for line in lines)} == counted
    assert last == f"{len(texts)} texts scored"
