"""Request headers that the server reads: API key (`Authorization`), request ID (`X-Request-Id`), `X-Timeout-Ms`."""

import re
import secrets
from hmac import compare_digest
from itertools import count

from starlette.datastructures import Headers

from manylabel.server.http.errors import HTTPRefusal

PUBLIC_PATHS = ("/", "/docs", "/openapi.json", "/health", "/metrics", "/v2/health/live", "/v2/health/ready")
"""Paths that a GET may read without the API key: the web page, the health probes and the metrics."""

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""A client's request ID that is safe to echo and to log."""

_PROCESS_ID = secrets.token_hex(4)
_numbers = count(1)


def check_api_key(key: str, method: str, path: str, headers: Headers) -> None:
    """Check that a request carries the API key where it is required; the comparison takes constant time.

    Args:
        key: The expected key; empty if the server has none.
        method: HTTP method.
        path: URL path.
        headers: The request's headers.

    Raises:
        HTTPRefusal: The key is missing or wrong (401).

    Example:
        >>> key = "0123456789abcdef"
        >>> check_api_key(key, "GET", "/health", Headers())
        >>> check_api_key(key, "POST", "/v1/classify", Headers({"Authorization": f"Bearer {key}"}))
    """
    if not key or (method in ("GET", "HEAD") and (path in PUBLIC_PATHS or path.startswith("/page/"))):
        return
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(token.strip().encode(), key.encode()):
        detail = "the API key is missing or wrong; send the header Authorization: Bearer KEY."
        raise HTTPRefusal(401, "key", detail, {"WWW-Authenticate": "Bearer"})


def resolve_request_id(header: str | None) -> str:
    """Return the client's request ID if it is safe to log, else a new one that is unique across restarts.

    Example:
        >>> resolve_request_id("order-7")
        'order-7'
        >>> resolve_request_id("<script>") == resolve_request_id(None)
        False
    """
    return header if header and SAFE_REQUEST_ID.fullmatch(header) else f"{_PROCESS_ID}-{next(_numbers):x}"


def resolve_timeout(header: str | None, limit: float) -> float:
    """Return the seconds that a request may take: `X-Timeout-Ms`, but at most the server's limit.

    Raises:
        HTTPRefusal: The header is not a positive number of milliseconds (422).

    Example:
        >>> resolve_timeout("250", limit=10.0), resolve_timeout(None, limit=10.0)
        (0.25, 10.0)
    """
    if header is None:
        return limit
    if not re.fullmatch("[1-9][0-9]{0,8}", header):
        detail = f"X-Timeout-Ms is {header[:20]!r}; expected whole milliseconds, 1 or more."
        raise HTTPRefusal(422, "malformed", detail)
    return min(int(header) / 1000, limit)
