"""Predictions beside the columns of a table: frames, record batches and blocks of a file's rows. Needs pyarrow.

In reading order:

    prediction_columns   which columns predictions add, and their values for a block of rows
    arrow                frames of any library and streams of record batches; `Classifier.predict_frame` calls it

Files (`scoring`) and engines (`engines`) add the same columns through these two modules.
"""

from importlib.util import find_spec

from manylabel.data.filesystem import needs_files_extra
from manylabel.system.resource_errors import memory_for_import

if find_spec("pyarrow") is None:
    raise needs_files_extra("score files or frames")

PYARROW_MB = 256
"""Address space that loading pyarrow takes: at most 223 MB with 26.0."""

with memory_for_import("pyarrow", PYARROW_MB):
    import pyarrow.parquet  # noqa: F401
