"""Probabilities from files that `manylabel score` wrote."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from numpy.typing import NDArray

from manylabel.errors import DataError
from manylabel.system.did_you_mean import near_path

FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json"}


def probabilities_of(path: Path, labels: Sequence[str], prefix: str = "") -> Iterator[NDArray[np.float32]]:
    """The probabilities of a file's rows, or of those of a folder's parts; rows with an error are left out.

    Args:
        path: A .parquet, .csv or .jsonl file, or a folder of such parts.
        labels: In column order.
        prefix: Before the names of the columns.

    Yields:
        Shape `(n_rows, n_labels)`, a block of rows at a time.

    Raises:
        DataError: It cannot be read, or has not the columns.
    """
    if not path.exists():
        raise DataError(f"there is no file and no folder {path}.{near_path(path)}")
    names = [f"{prefix}p_{label}" for label in labels]
    try:
        files = pyarrow.dataset.dataset(_files(path), format=FORMATS[_suffix(path)])
        missing = [name for name in names if name not in files.schema.names]
        if missing:
            raise DataError(
                f"{path} has no column {missing[0]!r}, a column of {len(names)} that there should be. Score with this "
                "bundle and --probabilities columns, and give --prefix as it was given then."
            )
        for batch in files.to_batches(columns=names):
            yield _matrix(batch)
    except (OSError, pa.ArrowException) as exc:
        raise DataError(f"{path} cannot be read: {str(exc).splitlines()[0]}") from exc


def _files(path: Path) -> list[str]:
    found = sorted(path.glob(f"part-*{_suffix(path)}")) if path.is_dir() else [path]
    return [str(each) for each in found]


def _suffix(path: Path) -> str:
    """What kind of files there are."""
    names = [path.name] if not path.is_dir() else sorted(each.name for each in path.glob("part-*"))
    suffix = next((kind for name in names for kind in FORMATS if name.endswith(kind)), None)
    if suffix is None:
        raise DataError(f"{path} is no .parquet, .csv or .jsonl file, and no folder of such parts.")
    return suffix


def _matrix(batch: Any) -> NDArray[np.float32]:
    columns = [column.cast(pa.float32()).to_numpy(zero_copy_only=False) for column in batch.columns]
    rows = np.stack(columns, axis=1).astype(np.float32)
    return np.asarray(rows[np.isfinite(rows).all(axis=1)])
