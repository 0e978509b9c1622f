"""What a request is called: in its answer, in the log, in an error."""

import re
import secrets
from itertools import count

SAFE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""What a client's own id may be made of, so that it can be echoed and logged."""

_RUN = secrets.token_hex(4)
_numbers = count(1)


def request_id(given: str | None) -> str:
    """The client's, where it gives one that is harmless, or else one that names this run of the server and a number."""
    return given if given and SAFE.fullmatch(given) else f"{_RUN}-{next(_numbers):x}"
