"""The OpenAPI document of the routes, written from the structs of `schemas`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from manylabel import __version__
from manylabel.server.schemas import all

_STRUCTS = [each for each in vars(all).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
REF = "#/components/schemas/{name}"


def document(model: str) -> dict[str, Any]:
    """OpenAPI 3.1.

    Args:
        model: The model's name, the only one that paths take.
    """
    _, components = msgspec.json.schema_components(
        [each for each in _STRUCTS if each is not msgspec.Struct], ref_template=REF
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "manylabel", "version": __version__, "description": "Every label that applies to a text."},
        "paths": _paths(model),
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _paths(model: str) -> dict[str, Any]:
    prefix = f"/v2/models/{model}"
    return {
        "/v1/classify": {"post": _post("Labels and probabilities", "ClassifyRequest", "ClassifyResponse", "Problem")},
        "/v1/explain": {"post": _post("Which words a label hangs on", "ExplainRequest", "ExplainResponse", "Problem")},
        "/v1/model": {"get": _get("The model that answers", "ModelInfo", "Problem")},
        "/predict": {"post": _post("TEI: probabilities", "TeiPredictRequest", _TEI_ROWS, "TeiError")},
        "/info": {"get": _get("TEI: model and limits", "TeiInfo", "TeiError")},
        "/health": {"get": _get("TEI: 200 while texts are taken", None, "TeiError")},
        "/v2": {"get": _get("OIP: server", "OipServerMetadata", "OipError")},
        "/v2/health/live": {"get": _get("OIP: live", "OipLive", "OipError")},
        "/v2/health/ready": {"get": _get("OIP: ready", "OipReady", "OipReady")},
        prefix: {"get": _get("OIP: model", "OipModelMetadata", "OipError")},
        f"{prefix}/ready": {"get": _get("OIP: model ready", "OipModelReady", "OipModelReady")},
        f"{prefix}/infer": {"post": _post("OIP: infer", "OipInferRequest", "OipInferResponse", "OipError")},
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
            "200": {"description": "Answered", "content": _content(response)},
            **{status: _error(status, error) for status in _REFUSALS},
        },
    }


def _get(summary: str, response: str | None, error: str) -> dict[str, Any]:
    ok = {"description": "As it is", **({"content": _content(response)} if response else {})}
    return {
        "summary": summary,
        "security": [{}, {"key": []}],
        "responses": {"200": ok, **{status: _error(status, error) for status in ("401", "503")}},
    }


_REFUSALS = {
    "400": "The body is not JSON",
    "401": "The key is missing or wrong",
    "408": "The body came too slowly",
    "413": "Body, text or number of texts too large",
    "415": "Not JSON, or compressed",
    "422": "JSON, but not as the schema says, or a text that is not taken",
    "429": "The queue is full; see Retry-After",
    "503": "Starting or draining",
    "504": "Not answered in time",
}


def _error(status: str, name: str) -> dict[str, Any]:
    kind = "application/problem+json" if name == "Problem" else "application/json"
    return {"description": _REFUSALS[status], "content": {kind: {"schema": {"$ref": REF.format(name=name)}}}}


def _content(schema: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(name=schema)} if isinstance(schema, str) else schema}}
