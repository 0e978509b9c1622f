"""Column types: those that the values of JSON objects share, and one schema for several files.

A column of JSON lines has the type that all its values share. Without a common type it is a column of JSON texts,
marked in the field's metadata.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from manylabel.data import filesystem
from manylabel.errors import DataError
from manylabel.system.unicode import valid_unicode

if find_spec("pyarrow") is None:
    raise filesystem.needs_files_extra("read files as Arrow tables")

import pyarrow as pa

JSON_METADATA = {b"manylabel": b"json"}
"""Marks a column of JSON texts: values of several types, objects, lists."""

EXACT_INTEGERS = 2**53
"""Integers up to this size are exact as doubles, too."""


def is_json(field: Any) -> bool:
    """Return whether an Arrow field is a column of JSON texts."""
    return bool(field.metadata and field.metadata.get(b"manylabel") == b"json")


class ColumnTypes:
    """The types of the values of JSON objects, by column, in order of first appearance.

    Example:
        >>> types = ColumnTypes()
        >>> types.add({"text": "late", "stars": 1})
        >>> types.add({"text": "good", "stars": 4.5, "tags": ["app"]})
        >>> [(field.name, str(field.type)) for field in types.schema("text")]
        [('text', 'string'), ('stars', 'double'), ('tags', 'string')]
    """

    def __init__(self) -> None:
        self._types: dict[str, set[str]] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        """Add the values of a row."""
        for name, value in values.items():
            self._types.setdefault(name, set()).add(_type_name(value))

    def schema(self, text_column: str) -> Any:
        """Return an Arrow schema. The text column is one of strings, whatever other values it holds."""
        return pa.schema(
            [
                pa.field(valid_unicode(name), pa.string())
                if name == text_column
                else _field(valid_unicode(name), types)
                for name, types in self._types.items()
            ]
        )


def json_value(value: Any, field: Any, *, is_text: bool) -> Any:
    """Return a JSON value as a column's field holds it; U+FFFD stands for lone surrogates.

    Args:
        value: The value.
        field: The column's Arrow field.
        is_text: Whether it is the text column, in which values other than strings are kept as JSON texts.
    """
    if isinstance(value, str) and (is_text or not is_json(field)):
        return valid_unicode(value)
    if value is not None and (is_text or is_json(field)):
        return valid_unicode(json.dumps(value, ensure_ascii=False))
    return value


def unify(schemas: Mapping[str, Any]) -> Any:
    """Return one schema for several files: the columns of all, in order of first appearance.

    Args:
        schemas: Arrow schemas by the file's name.

    Raises:
        DataError: A column's types in two files have no common type.

    Example:
        >>> one = pa.schema([("text", pa.string()), ("stars", pa.int64())])
        >>> other = pa.schema([("stars", pa.float64()), ("text", pa.string())])
        >>> unify({"a.jsonl": one, "b.jsonl": other}).field("stars").type
        DataType(double)
    """
    fields: dict[str, tuple[Any, str]] = {}
    for file, schema in schemas.items():
        for field in schema:
            before, first_file = fields.setdefault(field.name, (field, file))
            fields[field.name] = (_common_field(before, first_file, field, file), first_file)
    return pa.schema([field for field, _ in fields.values()])


def cast_columns(columns: Any, schema: Any) -> list[Any]:
    """Return a record batch's columns as arrays of a schema; columns that it lacks are null."""
    return [
        columns.column(field.name).cast(field.type)
        if field.name in columns.schema.names
        else pa.nulls(columns.num_rows, field.type)
        for field in schema
    ]


def _type_name(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if abs(value) <= EXACT_INTEGERS else "long" if -(2**63) <= value < 2**63 else "huge"
    return type(value).__name__


def _field(name: str, types: set[str]) -> Any:
    types = types - {"NoneType"}
    for some, arrow_type in (
        (set(), pa.null()),
        ({"str"}, pa.string()),
        ({"bool"}, pa.bool_()),
        ({"int", "long"}, pa.int64()),
        ({"int", "float"}, pa.float64()),
    ):
        if types <= some:
            return pa.field(name, arrow_type)
    return pa.field(name, pa.string(), metadata=JSON_METADATA)


def _common_field(one: Any, first_file: str, other: Any, file: str) -> Any:
    if pa.types.is_null(other.type) or (one.type == other.type and is_json(one) == is_json(other)):
        return one
    if pa.types.is_null(one.type):
        return other
    if {one.type, other.type} == {pa.int64(), pa.float64()}:
        return pa.field(one.name, pa.float64())
    types = ["JSON" if is_json(each) else str(each.type) for each in (one, other)]
    raise DataError(
        f"the column {one.name!r} is {types[0]} in {first_file} and {types[1]} in {file}. "
        "Score these files separately, or give the column one type."
    )
