"""What was likely meant by a name that is not there."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; empty where none is."""
    return next(iter(get_close_matches(name, list(known), n=1)), "")


def near_path(path: Path | str) -> str:
    """For the end of a message on a file or folder that is not there: ` Did you mean 'X'?`, or nothing.

    The first part of the path that is not there is looked for among its neighbours.
    """
    path = missing = Path(path)
    if os.path.lexists(path):
        return ""
    while missing.parent != missing and not os.path.isdir(missing.parent):
        missing = missing.parent
    try:
        close = nearest(missing.name, os.listdir(missing.parent))
    except OSError:
        return ""
    meant = missing.with_name(close) / path.relative_to(missing) if close else missing
    return f" Did you mean {str(meant)!r}?" if os.path.exists(meant) else ""
