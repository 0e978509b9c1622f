"""What counts as a frame: whatever speaks Arrow, or the dataframe interchange protocol before it."""

from typing import Protocol


class ArrowStream(Protocol):
    """Speaks Arrow's PyCapsule interface, as tables do: pandas, polars, DuckDB, pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A capsule with a stream of record batches."""


class ArrowArray(Protocol):
    """Speaks Arrow's PyCapsule interface, as single batches do."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> object:
        """Capsules with a schema and an array."""


class Interchange(Protocol):
    """Speaks the dataframe interchange protocol."""

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> object:
        """A frame as the protocol has it."""


Frame = ArrowStream | ArrowArray | Interchange
