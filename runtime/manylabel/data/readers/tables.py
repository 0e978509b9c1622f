"""Files of rows, whatever their format: CSV, TSV, JSONL and Parquet to one mapping a row, and where it stood."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from manylabel.errors import DataError, MissingDependency
from manylabel.system.did_you_mean import near_path

Row = Mapping[str, Any]
Located = tuple[str, Row]
"""Where a row stood, for messages, and its values by column."""

csv.field_size_limit(2**31 - 1)  # the default of 128 KiB refuses long texts


def read_rows(path: Path) -> list[Located]:
    """All rows of a file; its suffix says the format.

    Raises:
        DataError: The file is missing, unreadable, empty, or not in the format that its suffix says.
        MissingDependency: It is a Parquet file, and pyarrow is absent.
    """
    if path.is_dir():
        raise DataError(
            f"{path} cannot be read: it is a folder. Name a file in it, with one of the suffixes {', '.join(READERS)}."
        )
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has none of the suffixes {', '.join(READERS)}. Convert it to one of these formats.")
    try:
        rows = list(reader(path))
    except UnicodeDecodeError as exc:
        raise DataError(f"{path}, line {_first_bad_line(path)}: not UTF-8. Save the file as UTF-8.") from exc
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror or exc}.{near_path(path)}") from exc
    if not rows:
        raise DataError(f"{path} holds no rows. It needs at least one labelled text.")
    return rows


def _read_csv(path: Path) -> Iterator[Located]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        line = 1
        try:
            header = next(reader, [])
            _check_names(path, header)
            line = reader.line_num + 1
            for fields in reader:
                if fields:  # not a blank line
                    yield f"{path.name}, line {line}", _by_name(path, line, header, fields)
                line = reader.line_num + 1  # a field may hold line breaks
        except csv.Error as exc:
            raise DataError(f"{path}, line {line}: not valid CSV ({exc}). Check the quotes there.") from exc


def _by_name(path: Path, line: int, header: Sequence[str], fields: Sequence[str]) -> Row:
    if len(fields) != len(header):
        raise DataError(
            f"{path}, line {line}: found {len(fields)} fields where the header has {len(header)}. "
            "Put quotes around fields that hold the delimiter, a quote or a line break."
        )
    return dict(zip(header, fields, strict=True))


def _read_jsonl(path: Path) -> Iterator[Located]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as exc:
                raise DataError(f"{path}, line {number}: not valid JSON ({exc}).") from exc
            if not isinstance(row, dict):
                raise DataError(
                    f'{path}, line {number}: expected an object such as {{"text": "...", "labels": ["..."]}}, '
                    f"found {type(row).__name__}."
                )
            yield f"{path.name}, line {number}", row


def _read_parquet(path: Path) -> Iterator[Located]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise MissingDependency(
            f'manylabel[files] is required to read {path.name}. pip install "manylabel[files,cpu]"'
        ) from exc

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            _check_names(path, table.schema_arrow.names)
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", row
    except pyarrow.ArrowException as exc:
        raise DataError(f"{path} is not a Parquet file that can be read: {str(exc).splitlines()[0]}") from exc


READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has more than one column named {', '.join(map(repr, twice))}. Rename or remove one.")


def _first_bad_line(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return number
