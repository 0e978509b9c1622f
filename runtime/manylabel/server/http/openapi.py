"""The OpenAPI document of the routes, generated from the structs of `schemas`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from manylabel import __version__
from manylabel.server.schemas import huggingface, open_inference, tei, v1

_STRUCTS = [
    value
    for module in (v1, tei, open_inference, huggingface)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
]
REF = "#/components/schemas/{name}"


def build_openapi(model: str) -> dict[str, Any]:
    """Build the OpenAPI 3.1 document.

    Args:
        model: The served model's name, which appears in the paths.

    Example:
        >>> sorted(build_openapi("reviews")["paths"])[:3]
        ['/', '/health', '/info']
    """
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "manylabel",
            "version": __version__,
            "description": "Multi-label text classification: every label that applies to a text.",
        },
        "paths": _paths(model),
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _paths(model: str) -> dict[str, Any]:
    prefix = f"/v2/models/{model}"
    return {
        "/v1/classify": {"post": _post("Labels and probabilities", "ClassifyRequest", "ClassifyResponse", "Problem")},
        "/v1/explain": {"post": _post("Words behind a label", "ExplainRequest", "ExplainResponse", "Problem")},
        "/v1/model": {"get": _get("The served model", "ModelInfo", "Problem")},
        "/predict": {"post": _post("TEI: probabilities", "TeiPredictRequest", _TEI_ROWS, "TeiError")},
        "/info": {"get": _get("TEI: model and limits", "TeiInfo", "TeiError")},
        "/health": {"get": _get("TEI: health check, 200 while requests are accepted", None, "TeiError")},
        "/v2": {"get": _get("OIP: server metadata", "OipServerMetadata", "OipError")},
        "/v2/health/live": {"get": _get("OIP: liveness probe", "OipLive", "OipError")},
        "/v2/health/ready": {"get": _get("OIP: readiness probe", "OipReady", "OipReady")},
        prefix: {"get": _get("OIP: model metadata", "OipModelMetadata", "OipError")},
        f"{prefix}/ready": {"get": _get("OIP: model readiness probe", "OipModelReady", "OipModelReady")},
        f"{prefix}/infer": {"post": _post("OIP: inference", "OipInferRequest", "OipInferResponse", "OipError")},
        "/": {"post": _post("Hugging Face: probabilities", "HfRequest", _ROWS, "HfError")},
    }


_ROW = {"type": "array", "items": {"$ref": REF.format(name="LabelScore")}}
_ROWS = {"type": "array", "items": _ROW}
_TEI_ROWS = {"anyOf": [_ROW, _ROWS]}


def _post(summary: str, request: str, response: str | Mapping[str, Any], error: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [{}, {"key": []}],
        "requestBody": {"required": True, "content": _content(request)},
        "responses": {
            "200": {"description": "Success", "content": _content(response)},
            **{status: _error(status, error) for status in _ERRORS},
        },
    }


def _get(summary: str, response: str | None, error: str) -> dict[str, Any]:
    success = {"description": "Success", **({"content": _content(response)} if response else {})}
    return {
        "summary": summary,
        "security": [{}, {"key": []}],
        "responses": {"200": success, **{status: _error(status, error) for status in ("401", "503")}},
    }


_ERRORS = {
    "400": "The body is not JSON",
    "401": "The API key is missing or wrong",
    "408": "The body arrived too slowly",
    "413": "The body or a text is too large, or there are too many texts",
    "415": "The body is compressed or not JSON",
    "422": "The JSON does not match the schema, or a text is invalid",
    "429": "The queue is full; see Retry-After",
    "503": "The server is starting or draining",
    "504": "The deadline has passed",
}


def _error(status: str, name: str) -> dict[str, Any]:
    media_type = "application/problem+json" if name == "Problem" else "application/json"
    return {"description": _ERRORS[status], "content": {media_type: {"schema": {"$ref": REF.format(name=name)}}}}


def _content(schema: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(name=schema)} if isinstance(schema, str) else schema}}
