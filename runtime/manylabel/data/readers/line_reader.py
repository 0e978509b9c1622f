"""The lines of a file with their offsets, as text; a line that cannot be used does no harm to the next."""

from collections import deque
from typing import IO

from manylabel.data.readers.block import ROW_BYTES

MARK = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which some programs put before the first line."""


class RowTooLong(Exception):
    """A row goes on for more than `ROW_BYTES`."""


class Lines:
    """An iterator over lines that remembers those of the row at hand, and can take back all but its first.

    Args:
        file: What is read, from its present place.
        line: The number of the first line.
        offset: The bytes before it.
    """

    def __init__(self, file: IO[bytes], *, line: int = 1, offset: int = 0) -> None:
        self._file = file
        self._again: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._taken_bytes = 0
        self._skipped = 0
        self.line = line
        self.offset = offset
        self.bad_bytes = False

    def begin_row(self) -> None:
        """What was taken belongs to the row before: the next row begins at `line` and `offset`."""
        self.line += len(self._taken)
        self.offset += self._taken_bytes + self._skipped
        self._taken = []
        self._taken_bytes = self._skipped = 0
        self.bad_bytes = False

    def give_up_row(self) -> None:
        """Let the row end with its first line; those behind are read again."""
        behind = self._taken[1:]
        self._again.extendleft(reversed(behind))
        del self._taken[1:]
        self._taken_bytes -= sum(map(len, behind))

    @property
    def row_bytes(self) -> int:
        """Bytes of the row at hand."""
        return self._taken_bytes

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        raw = self._again.popleft() if self._again else self._file.readline(ROW_BYTES)
        if not raw:
            raise StopIteration
        self._taken.append(raw)
        self._taken_bytes += len(raw)
        if self._taken_bytes >= ROW_BYTES:
            self._skip_rest(raw)
            raise RowTooLong
        if self.offset == 0 and len(self._taken) == 1:
            raw = raw.removeprefix(MARK)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.bad_bytes = True
            return raw.decode(errors="replace")

    def _skip_rest(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(ROW_BYTES)
            self._skipped += len(raw)
