"""Labelled texts in every supported form, and an error message for every unsupported one."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from manylabel.data.labeled_data import Columns
from manylabel.errors import DataError, LabelMismatch, UnknownLabel
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.data.splits import assign_splits

DEFAULT = Columns()
CSV = "text,labels,split\nthe app crashed,app|price,train\nnothing,,dev\n"


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fails(error: type[Exception], path: Path, *parts: str, columns: Columns = DEFAULT, labels: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    """Check that reading fails with a one-line message that contains all `parts`."""
    with pytest.raises(error) as caught:
        read_dataset(path, columns, labels=labels)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def is_the_example(data: Dataset) -> None:
    assert data.texts == ("the app crashed", "nothing")
    assert data.labels == ("app", "price")
    assert data.targets.tolist() == [[1, 1], [0, 0]]
    assert data.targets.dtype == np.float32
    assert data.split == ("train", "validation")


# Supported forms


def test_csv_with_a_separated_string(tmp_path: Path) -> None:
    is_the_example(read_dataset(write(tmp_path, "a.csv", CSV)))


def test_csv_with_bom_and_crlf(tmp_path: Path) -> None:
    is_the_example(read_dataset(write(tmp_path, "a.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())))


def test_tsv(tmp_path: Path) -> None:
    is_the_example(read_dataset(write(tmp_path, "a.TSV", CSV.replace(",", "\t"))))


def test_jsonl_with_lists(tmp_path: Path) -> None:
    rows = [
        {"text": "the app crashed", "labels": ["price", "app"], "split": "train"},
        {"text": "nothing", "labels": [], "split": "validation"},
    ]
    is_the_example(read_dataset(write(tmp_path, "a.jsonl", "\n\n".join(map(json.dumps, rows)))))


def test_parquet_with_lists(tmp_path: Path) -> None:
    table = pyarrow.table(
        {"text": ["the app crashed", "nothing"], "labels": [["app", "price"], []], "split": ["train", "val"]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    is_the_example(read_dataset(tmp_path / "a.parquet"))


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("true", "False")])
def test_one_column_a_label(tmp_path: Path, yes: str, no: str) -> None:
    path = write(tmp_path, "a.csv", f"text,price,app,split\nthe app crashed,{yes},{yes},train\nnothing,{no},{no},dev\n")
    is_the_example(read_dataset(path, Columns(indicators=("app", "price"))))


def test_parquet_with_boolean_and_integer_columns(tmp_path: Path) -> None:
    table = pyarrow.table(
        {"text": ["the app crashed", "nothing"], "app": [True, False], "price": [1, 0], "split": ["train", "dev"]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    is_the_example(read_dataset(tmp_path / "a.parquet", Columns(indicators=("app", "price"))))


@pytest.mark.parametrize("sparse", [False, True])
def test_the_matrix_of_multilabelbinarizer(sparse: bool) -> None:
    binarizer = MultiLabelBinarizer(sparse_output=sparse)
    matrix = binarizer.fit_transform([{"app", "price"}, set()])
    data = Dataset.from_matrix(
        ["the app crashed", "nothing"], matrix, binarizer.classes_, split=np.array(["train", "dev"])
    )
    is_the_example(data)
    assert {type(label) for label in data.labels} == {str}


def test_other_names_and_another_separator(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.csv", "review;tags;part\n".replace(";", ",") + "the app crashed,price; app,train\nnothing, ,dev\n"
    )
    is_the_example(read_dataset(path, Columns(text="review", labels="tags", separator=";", split="part")))


def test_a_file_without_a_split_column(tmp_path: Path) -> None:
    assert read_dataset(write(tmp_path, "a.csv", "text,labels\nfine,app\n")).split == ("",)


def test_given_labels_set_column_order_and_may_be_unused(tmp_path: Path) -> None:
    data = read_dataset(write(tmp_path, "a.csv", CSV), labels=("price", "delivery", "app"))
    assert data.labels == ("price", "delivery", "app")
    assert data.targets.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_labels_with_spaces_commas_quotes_and_any_script(tmp_path: Path) -> None:
    labels = ["user experience", "price, value", 'so-called "quality"', "Preis/Größe", "配送", "👩‍💻"]
    path = write(tmp_path, "a.jsonl", json.dumps({"text": "x", "labels": labels}))
    assert read_dataset(path, labels=labels).labels == tuple(labels)


def test_csv_texts_with_line_breaks_beyond_the_field_limit(tmp_path: Path) -> None:
    long = "so bad " * 40_000
    data = read_dataset(write(tmp_path, "a.csv", f'text,labels\n"two\nlines",app\n{long},app\n'))
    assert data.texts == ("two\nlines", long)


@given(st.lists(st.lists(st.sampled_from(["a", "b c", "d,e", "ä"]), unique=True), min_size=1).filter(any))
def test_every_format_gives_the_same_data(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    folder = tmp_path_factory.mktemp("formats")
    texts = [f"text {at}, with a comma" for at in range(len(rows))]
    lines = [f'"{text}","{"|".join(labels)}"' for text, labels in zip(texts, rows, strict=True)]
    csv = read_dataset(write(folder, "a.csv", "\n".join(["text,labels", *lines])))
    jsonl = [json.dumps({"text": text, "labels": labels}) for text, labels in zip(texts, rows, strict=True)]
    other = read_dataset(write(folder, "a.jsonl", "\n".join(jsonl)))
    assert csv.digest() == other.digest()


def test_digest_depends_on_rows_labels_and_splits() -> None:
    data = Dataset(("a", "b"), np.eye(2, dtype=np.float32), ("x", "y"))
    others = [
        Dataset(("a", "c"), np.eye(2, dtype=np.float32), ("x", "y")),
        Dataset(("a", "b"), np.ones((2, 2), dtype=np.float32), ("x", "y")),
        Dataset(("a", "b"), np.eye(2, dtype=np.float32), ("x", "z")),
        Dataset(("a", "b"), np.eye(2, dtype=np.float32), ("x", "y"), ("train", "test")),
    ]
    assert data.digest() == Dataset(("a", "b"), np.eye(2, dtype=np.float32), ("x", "y")).digest()
    assert len({data.digest(), *(other.digest() for other in others)}) == 5


# Errors


def test_a_missing_file(tmp_path: Path) -> None:
    fails(DataError, tmp_path / "no.csv", "no.csv", "No such file")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    fails(DataError, tmp_path / "a.csv", "cannot be read")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    fails(DataError, write(tmp_path, name, ""), "holds no rows")


def test_a_header_alone(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", "text,labels\n"), "holds no rows")


def test_an_unknown_suffix(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.xlsx", "x"), ".csv", ".parquet")


def test_invalid_utf8_error_names_the_line(tmp_path: Path) -> None:
    content = b"text,labels\n" + b"fine,app\n" * 5000 + "gr\xfcn,app\n".encode("latin-1")
    fails(DataError, write(tmp_path, "a.csv", content), "line 5002", "UTF-8")


def test_invalid_parquet_file(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.parquet", CSV), "not a Parquet file")


def test_truncated_parquet_file(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "labels": [["x"]]}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    fails(DataError, write(tmp_path, "b.parquet", content[: len(content) // 2]), "b.parquet")


def test_missing_column_error_lists_columns(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", "review,labels\nx,y\n"), "'text'", "'review'", "--text-column")


def test_a_missing_label_column(tmp_path: Path) -> None:
    columns = Columns(indicators=("app", "price"))
    fails(DataError, write(tmp_path, "a.csv", "text,app\nx,1\n"), "'price'", columns=columns)


def test_unknown_label_error_suggests_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,labels\nfine,app\nx,delivry\n")
    fails(UnknownLabel, path, "line 3", "'delivry'", "Did you mean 'delivery'?", labels=("app", "delivery"))


def test_unknown_label_without_a_similar_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,labels\nfine,zzz\n")
    fails(UnknownLabel, path, "'zzz'", "'app', 'delivery'", labels=("app", "delivery"))


def test_a_given_label_without_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,app\nx,1\n")
    fails(DataError, path, "'price' has no column", columns=Columns(indicators=("app",)), labels=("app", "price"))


@pytest.mark.parametrize("text", ["", "  ", "\t"])
def test_a_row_without_text(tmp_path: Path, text: str) -> None:
    fails(DataError, write(tmp_path, "a.csv", f"text,labels\nfine,app\n{text},app\n"), "line 3", "empty text")


@pytest.mark.parametrize("row", [{"labels": []}, {"text": None, "labels": []}, {"text": 3, "labels": []}])
def test_row_with_missing_or_non_string_text(tmp_path: Path, row: object) -> None:
    first = json.dumps({"text": "fine", "labels": ["app"]})
    fails(DataError, write(tmp_path, "a.jsonl", f"{first}\n{json.dumps(row)}"), "line 2", "for a text")


@pytest.mark.parametrize("labels", [None, 3, ["app", 3], ["app", " "], {"app": 1}])
def test_invalid_label_names(tmp_path: Path, labels: object) -> None:
    first = json.dumps({"text": "fine", "labels": ["app"]})
    path = write(tmp_path, "a.jsonl", f"{first}\n{json.dumps({'text': 'x', 'labels': labels})}")
    fails(DataError, path, "line 2", "'labels'")


def test_a_gap_between_separators(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", "text,labels\nx,app||price\n"), "line 2", "'app||price'")


def test_no_label_anywhere(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", "text,labels\nx,\n"), "no row has a label", "--labels-column")


@pytest.mark.parametrize("value", ["2", "-1", "yes", "?"])
def test_indicator_other_than_0_or_1(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, "a.csv", f"text,app\nx,1\ny,{value}\n")
    fails(DataError, path, "line 3", "'app'", "expected 0 or 1", columns=Columns(indicators=("app",)))


def test_unknown_split_name(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", "text,labels,split\nx,app,holdout\n"), "line 2", "'holdout'", "dev")


def test_duplicate_column_names(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", "text,labels,text\nx,app,y\n"), "more than one column named 'text'")


def test_duplicate_column_names_in_parquet(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    fails(DataError, tmp_path / "a.parquet", "more than one column named 'text'")


@pytest.mark.parametrize("row", ["x", "x,app,y"])
def test_ragged_csv_row(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, "a.csv", f'text,labels\n"two\nlines",app\n{row}\n')
    fails(DataError, path, "line 4", "header has 2")


def test_unclosed_quote(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", 'text,labels\nfine,app\n"x,app\ny,app\n'), "line 3", "quotes")


def test_invalid_json_error_names_the_line(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.jsonl", '{"text": "a", "labels": []}\n{"text": \n'), "line 2", "not valid JSON")


def test_json_line_that_is_not_an_object(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.jsonl", '["a"]\n'), "line 1", "found list")


def test_deeply_nested_json(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.jsonl", "[" * 200_000), "line 1", "not valid JSON")


def test_duplicate_label_names(tmp_path: Path) -> None:
    fails(DataError, write(tmp_path, "a.csv", CSV), "'app' occurs more than once", labels=("app", "price", "app"))


@pytest.mark.parametrize("label", ["", " ", "a\nb", "a\u2028b", "\ud800", 3, None])
def test_label_that_is_not_a_name(label: object) -> None:
    with pytest.raises(DataError, match="cannot name a label"):
        Dataset.from_matrix(["x"], [[1, 0]], ["app", label])  # type: ignore[list-item]


def test_an_empty_separator() -> None:
    with pytest.raises(DataError, match="separator is empty"):
        Columns(separator="")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 0]], r"has shape \(1, 2\).*need \(2, 2\)"),
        ([[1], [0]], r"has shape \(2, 1\)"),
        ([[1, 2], [0, 0]], "other than 0, 1 and NaN"),
        ([[1, float("inf")], [0, 0]], "other than 0, 1 and NaN"),
        ([[1, 0], [0]], "not a matrix"),
        ([["a", "b"], ["c", "d"]], "not a matrix"),
    ],
)
def test_matrix_with_wrong_shape(matrix: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_matrix(["x", "y"], matrix, ["app", "price"])


def test_split_list_must_match_texts() -> None:
    with pytest.raises(DataError, match="1 split names for 2 texts"):
        Dataset.from_matrix(["x", "y"], [[1], [0]], ["app"], split=["train"])


# Splits and columns


def test_random_split_is_seeded_and_takes_10_percent_each() -> None:
    data = Dataset(tuple(map(str, range(50))), np.ones((50, 1), dtype=np.float32), ("a",))
    first, again, other = (assign_splits(data, seed=seed).split for seed in (1, 1, 2))
    assert first == again != other
    assert [first.count(name) for name in ("train", "validation", "test")] == [40, 5, 5]


def test_too_few_rows_to_split() -> None:
    data = Dataset(tuple("abc"), np.ones((3, 1), dtype=np.float32), ("a",))
    with pytest.raises(DataError, match="3 rows are too few"):
        assign_splits(data, seed=0)


def test_some_rows_without_a_split() -> None:
    data = Dataset(tuple("abc"), np.ones((3, 1), dtype=np.float32), ("a",), ("train", "", "validation"))
    with pytest.raises(DataError, match="1 of 3 rows have no split"):
        assign_splits(data, seed=0)


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_no_rows_for_a_split(missing: str) -> None:
    data = Dataset(("x",), np.ones((1, 1), dtype=np.float32), ("a",), ("test",))
    others = Dataset(("x", "y"), np.ones((2, 1), dtype=np.float32), ("a",), ("train", "test"))
    with pytest.raises(DataError, match=f"no {missing} rows"):
        assign_splits(data if missing == "train" else others, seed=0)


def test_columns_follow_the_checkpoint_order() -> None:
    data = Dataset(("x", "y"), np.array([[1, 0], [0, 0]], dtype=np.float32), ("a", "b")).reorder(("b", "a"))
    assert data.labels == ("b", "a")
    assert data.targets.tolist() == [[0, 1], [0, 0]]


def test_labels_missing_in_the_checkpoint() -> None:
    data = Dataset(("x",), np.zeros((1, 2), dtype=np.float32), ("a", "new"))
    with pytest.raises(LabelMismatch, match=r"has 3 labels and the data 2; only the data has 'new'; .*'b', 'c'"):
        data.reorder(("a", "b", "c"))
