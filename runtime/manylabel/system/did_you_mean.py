"""Suggestions for error messages: the name that was probably meant."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar to `name`, or "" if none is similar.

    Example:
        >>> suggest_name("delivry", ["billing", "delivery"])
        'delivery'
    """
    return next(iter(get_close_matches(name, list(known), n=1)), "")


def suggest_path(path: Path | str) -> str:
    """Return the end of an error message about a missing file or folder: ` Did you mean 'X'?`, or "".

    The first missing part of the path is compared with the names that exist in its place.

    Example:
        >>> suggest_path("bundel")
        " Did you mean 'bundle'?"
    """
    path = missing = Path(path)
    if os.path.lexists(path):
        return ""
    while missing.parent != missing and not os.path.isdir(missing.parent):
        missing = missing.parent
    try:
        close = suggest_name(missing.name, os.listdir(missing.parent))
    except OSError:
        return ""
    suggestion = missing.with_name(close) / path.relative_to(missing) if close else missing
    return f" Did you mean {str(suggestion)!r}?" if os.path.exists(suggestion) else ""
