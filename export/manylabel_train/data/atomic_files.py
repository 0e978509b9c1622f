"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from manylabel.errors import InputError


@contextmanager
def replaced(path: Path, *, encoding: str = "utf-8") -> Iterator[TextIO]:
    """A text file to fill, which takes the place of an old one when the block ends without an error.

    Lone surrogates, which UTF-8 cannot hold, are written as escapes.

    Raises:
        InputError: It cannot be written.
    """
    staging = path.with_name(f".{path.name}.new")
    try:
        with staging.open("w", encoding=encoding, errors="backslashreplace", newline="") as file:
            yield file
        os.replace(staging, path)
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror or exc}. Choose another output.") from exc
    finally:
        staging.unlink(missing_ok=True)
