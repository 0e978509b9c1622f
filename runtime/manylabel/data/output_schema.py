"""Which columns there are: those of the inputs, kept as they came, and those of the answer."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from manylabel.data.readers.block import Block
from manylabel.errors import DataError
from manylabel.inference.predictions import PredictionBatch
from manylabel.inference.thresholding import decide
from manylabel.inference.tokenizer import valid_unicode

Probabilities = Literal["columns", "list", "none"]
JSON = {b"manylabel": b"json"}
"""Marks a column of JSON texts: values of several types, objects, lists."""

EXACT = 2**53
"""Integers up to here are doubles as well."""


def is_json(field: Any) -> bool:
    """Whether a column holds JSON texts."""
    return bool(field.metadata and field.metadata.get(b"manylabel") == b"json")


def check_names(file: str, names: Sequence[str]) -> None:
    """Refuse a header that names a column twice.

    Raises:
        DataError: It does.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{file} has more than one column named {', '.join(map(repr, twice))}. Rename or remove one.")


def check_text_column(file: str, names: Sequence[str], text_column: str) -> None:
    """Refuse a file without the column of texts.

    Raises:
        DataError: It has none.
    """
    if text_column not in names:
        found = ", ".join(map(repr, names[:20]))
        raise DataError(
            f"{file} has no column {text_column!r}; it has {found}. Say which one holds the texts (--text-column)."
        )


def is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are texts; a column of nulls may come to be one."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    )


class Kinds:
    """The types that the values of JSON objects have, by name, in order of their first sight."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def see(self, values: Mapping[str, Any]) -> None:
        """Take note of a row."""
        for name, value in values.items():
            self._seen.setdefault(name, set()).add(_kind(value))

    def schema(self, text_column: str) -> Any:
        """An Arrow schema; the column of texts is one of strings, whatever else stands there."""
        return pa.schema(
            [
                pa.field(valid_unicode(name), pa.string())
                if name == text_column
                else _field(valid_unicode(name), kinds)
                for name, kinds in self._seen.items()
            ]
        )


def _kind(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if abs(value) <= EXACT else "long" if -(2**63) <= value < 2**63 else "huge"
    return type(value).__name__


def _field(name: str, kinds: set[str]) -> Any:
    kinds = kinds - {"NoneType"}
    for some, kind in (
        (set(), pa.null()),
        ({"str"}, pa.string()),
        ({"bool"}, pa.bool_()),
        ({"int", "long"}, pa.int64()),
        ({"int", "float"}, pa.float64()),
    ):
        if kinds <= some:
            return pa.field(name, kind)
    return pa.field(name, pa.string(), metadata=JSON)


def unify(schemas: Mapping[str, Any]) -> Any:
    """One schema for several files: the columns of all, in order of their first sight.

    Args:
        schemas: Arrow schemas by the file's name.

    Raises:
        DataError: A column is of types that do not go together.
    """
    fields: dict[str, tuple[Any, str]] = {}
    for file, schema in schemas.items():
        for field in schema:
            before, first = fields.setdefault(field.name, (field, file))
            fields[field.name] = (_common(before, first, field, file), first)
    return pa.schema([field for field, _ in fields.values()])


def _common(one: Any, first: str, other: Any, file: str) -> Any:
    if pa.types.is_null(other.type) or (one.type == other.type and is_json(one) == is_json(other)):
        return one
    if pa.types.is_null(one.type):
        return other
    if {one.type, other.type} == {pa.int64(), pa.float64()}:
        return pa.field(one.name, pa.float64())
    kinds = ["JSON" if is_json(each) else str(each.type) for each in (one, other)]
    raise DataError(
        f"the column {one.name!r} is {kinds[0]} in {first} and {kinds[1]} in {file}. "
        "Score these files apart, or give the column one type."
    )


def conform(columns: Any, schema: Any) -> list[Any]:
    """A file's columns as arrays of the common schema; those it lacks are null."""
    return [
        columns.column(field.name).cast(field.type)
        if field.name in columns.schema.names
        else pa.nulls(columns.num_rows, field.type)
        for field in schema
    ]


def answer_fields(labels: Sequence[str], probabilities: Probabilities, prefix: str) -> list[Any]:
    """The columns of the answer."""
    named = {
        "columns": [(f"p_{label}", pa.float32()) for label in labels],
        "list": [("probabilities", pa.list_(pa.float32()))],
        "none": [],
    }[probabilities]
    return [
        pa.field(prefix + name, kind)
        for name, kind in [
            ("labels", pa.list_(pa.string())),
            *named,
            ("n_tokens", pa.int64()),
            ("truncated", pa.bool_()),
            ("error", pa.string()),
        ]
    ]


def check_apart(inputs: Any, answers: Sequence[Any]) -> None:
    """Refuse an input that has a column of the answer's name.

    Raises:
        DataError: It has one.
    """
    taken = sorted({field.name for field in answers} & set(inputs.names))
    if taken:
        raise DataError(
            f"the input has columns named {', '.join(map(repr, taken))}, as the answer has. "
            "Set the answer's apart with --prefix, such as --prefix predicted_."
        )


def answered_table(
    block: Block,
    answers: PredictionBatch,
    *,
    schema: Any,
    labels: Sequence[str],
    thresholds: Any,
    probabilities: Probabilities,
) -> Any:
    """A block's columns and the answers to it, as an Arrow table of `schema`. A row with an error has no answer.

    Args:
        block: The rows.
        answers: As many.
        schema: The input's columns and behind them the answer's.
        labels: The labels in column order.
        thresholds: Shape `(n_labels,)`.
        probabilities: How they are given.
    """
    errors = {place: f"{type(error).__name__}: {error}" for place, error in answers.errors.items()} | dict(block.errors)
    failed = np.zeros(len(block), dtype=np.bool_)
    failed[list(errors)] = True
    scores = answers.probabilities
    given = {
        "columns": [pa.array(scores[:, column], mask=failed) for column in range(len(labels))],
        "list": [_lists(np.ones_like(scores, dtype=np.bool_), pa.array(scores.ravel()), failed)],
        "none": [],
    }[probabilities]
    arrays = [
        *conform(block.columns, pa.schema(list(schema)[: len(schema) - len(given) - 4])),
        _labels(scores, thresholds, labels, failed),
        *given,
        pa.array(answers.n_tokens, mask=failed),
        pa.array(answers.truncated, mask=failed),
        pa.array([errors.get(place) for place in range(len(block))], type=pa.string()),
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _labels(scores: Any, thresholds: Any, labels: Sequence[str], failed: Any) -> Any:
    """The labels that apply to each row, the most probable first, as `Prediction.labels` has them."""
    order = np.argsort(-scores, axis=1, kind="stable")
    applies = np.take_along_axis(decide(scores, thresholds), order, axis=1) & ~failed[:, None]
    return _lists(applies, pa.array(labels, type=pa.string()).take(pa.array(order[applies])), failed)


def _lists(kept: Any, values: Any, failed: Any) -> Any:
    """Lists of `values`, as many a row as are kept; null where the row has failed."""
    if values.type == pa.float32():
        values = pa.array(np.asarray(values).reshape(kept.shape)[~failed].ravel(), type=pa.float32())
        kept = kept & ~failed[:, None]
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(failed))
