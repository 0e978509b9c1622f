"""The key that requests carry: where it comes from, and what needs it. It is never logged."""

import os
from hmac import compare_digest
from pathlib import Path

from starlette.datastructures import Headers

from manylabel.errors import InputError
from manylabel.server.http.errors import Refusal

VARIABLE = "MANYLABEL_API_KEY"
OPEN = ("/", "/docs", "/openapi.json", "/health", "/metrics", "/v2/health/live", "/v2/health/ready")
"""What is answered to GET without the key: the page, whether the server is well, and figures for the monitoring."""

SHORTEST = 16


def read_key(file: Path | None) -> str:
    """The key from a file, or else from the environment; empty where there is none.

    Raises:
        InputError: The file cannot be read, or what it holds is no key.
    """
    if file is None:
        key, where = os.environ.get(VARIABLE, ""), VARIABLE
        if not key:
            return ""
    else:
        try:
            key, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as exc:
            raise InputError(f"the key's file {file} cannot be read: {exc}.") from exc
    if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"{where} holds no key: expected {SHORTEST} or more visible ASCII characters, found {len(key)} characters. "
            "Make one with openssl rand -hex 32."
        )
    return key


def check_key(key: str, method: str, path: str, headers: Headers) -> None:
    """Refuse a request that needs the key and does not carry it. The comparison takes the same time for any other key.

    Raises:
        Refusal: 401.
    """
    if not key or (method in ("GET", "HEAD") and (path in OPEN or path.startswith("/page/"))):
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(given.strip().encode(), key.encode()):
        detail = "the key is missing or wrong: send Authorization: Bearer KEY."
        raise Refusal(401, "key", detail, {"WWW-Authenticate": "Bearer"})
