"""What is refused, with which status, and how each protocol says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

import msgspec

from manylabel.server.schemas.all import HfError, OipError, Problem, TeiError, TeiErrorType

Reason = Literal[
    "malformed",
    "key",
    "not_found",
    "slow_body",
    "too_large",
    "encoding",
    "text",
    "full",
    "draining",
    "deadline",
    "model",
]


@dataclass
class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP's.
        reason: For the metrics.
        detail: For the client, with numbers on both sides.
        headers: To be sent besides.
    """

    status: int
    reason: Reason
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """An error as it is sent."""

    status: int
    body: bytes
    content_type: str = "application/json"


Dialect = Callable[[Refusal, str], Rendered]
"""From a refusal and the request's id to what is sent."""


def dialect_of(path: str, method: str) -> Dialect:
    """How the protocol that owns a path speaks of errors."""
    if path == "/v2" or path.startswith("/v2/"):
        return _oip
    if path in ("/predict", "/info", "/health", "/metrics"):
        return _tei
    if path.startswith("/models/") or (path == "/" and method == "POST"):
        return _hf
    return _problem


def _problem(refusal: Refusal, request_id: str) -> Rendered:
    status = HTTPStatus(refusal.status)
    body = Problem(title=status.phrase, status=status, detail=refusal.detail, request_id=request_id)
    return Rendered(refusal.status, msgspec.json.encode(body), "application/problem+json")


def _tei(refusal: Refusal, request_id: str) -> Rendered:
    kind = _TEI_TYPES.get(refusal.reason, "Validation")
    status = HTTPStatus.FAILED_DEPENDENCY if kind == "Backend" else refusal.status  # as it says of its own back ends
    return Rendered(status, msgspec.json.encode(TeiError(refusal.detail, kind)))


_TEI_TYPES: dict[Reason, TeiErrorType] = {
    "full": "Overloaded",
    "draining": "Unhealthy",
    "deadline": "Overloaded",
    "model": "Backend",
}


def _oip(refusal: Refusal, request_id: str) -> Rendered:
    return Rendered(refusal.status, msgspec.json.encode(OipError(refusal.detail)))


def _hf(refusal: Refusal, request_id: str) -> Rendered:
    return Rendered(refusal.status, msgspec.json.encode(HfError(refusal.detail)))
