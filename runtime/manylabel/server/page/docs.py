"""The page at `/docs`: an OpenAPI document as plain HTML, written by the server, without a script."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from manylabel.server.page.assets import Asset

METHODS = ("get", "head", "post", "put", "patch", "delete")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page/page.css">
</head>
<body class="docs">
<header><h1><a href="./">manylabel</a></h1><p class="facts"><strong>{title}</strong> <span>{version}</span></p>
<nav><a href="openapi.json">openapi.json</a></nav></header>
<main><div class="column">
{body}
</div></main>
</body>
</html>
"""


class Html(str):
    """Escaped already."""

    __slots__ = ()


def docs_page(openapi: Mapping[str, Any]) -> Asset:
    """The page for an OpenAPI 3 document: its operations, and below them the schemas that these name.

    Every string of the document is escaped.
    """
    info = openapi.get("info", {})
    schemas = openapi.get("components", {}).get("schemas", {})
    operations = (
        _operation(method, path, item[method], item.get("parameters", ()))
        for path, item in openapi.get("paths", {}).items()
        for method in METHODS
        if method in item
    )
    parts = [_paragraphs(info.get("description", "")), *operations, "<h2>Schemas</h2>"]
    parts += [_schema(name, schema) for name, schema in sorted(schemas.items())]
    title, version = escape(str(info.get("title", "API"))), escape(str(info.get("version", "")))
    page = _PAGE.format(title=title, version=version, body="\n".join(parts))
    return Asset(page.encode(), "text/html; charset=utf-8")


def _operation(method: str, path: str, operation: Mapping[str, Any], shared: Sequence[Any]) -> str:
    summary = escape(str(operation.get("summary", "")))
    parameters = [(one["name"], one["in"], one.get("description", "")) for one in _given(operation, shared)]
    body = _content(operation.get("requestBody", {}))
    answers = [
        (status, answer.get("description", ""), *_content(answer))
        for status, answer in operation.get("responses", {}).items()
    ]
    return "".join(
        (
            f'<details class="card operation"><summary><code class="method">{method.upper()}</code> ',
            f'<code>{escape(path)}</code> <span class="quiet">{summary}</span></summary>',
            _paragraphs(operation.get("description", "")),
            _table(("parameter", "in", ""), parameters) if parameters else "",
            _table(("request", "as"), [body]) if body else "",
            _table(("status", "", "answer", "as"), answers),
            "</details>",
        )
    )


def _given(operation: Mapping[str, Any], shared: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [one for one in (*shared, *operation.get("parameters", ())) if "name" in one]


def _content(holder: Mapping[str, Any]) -> tuple[Html | str, ...]:
    """What is sent and in which media type, of the first that is offered; nothing where there is no body."""
    for media_type, content in holder.get("content", {}).items():
        return Html(_kind(content.get("schema", {}))), str(media_type)
    return ()


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    said, fields = _attributes(str(schema.get("description", "")))
    required = schema.get("required", ())
    rows = [
        (field if field in required else f"{field}?", Html(_kind(of)), of.get("description") or fields.get(field, ""))
        for field, of in schema.get("properties", {}).items()
    ]
    inside = _table(("field", "type", ""), rows) if rows else f"<p>{_kind(schema)}</p>"
    anchor = escape(f"schema-{name}")
    return f'<section class="card" id="{anchor}"><h3>{escape(name)}</h3>{_paragraphs(said)}{inside}</section>'


def _attributes(description: str) -> tuple[str, dict[str, str]]:
    """A docstring's text, and its fields' descriptions where it ends in `Attributes:`."""
    said, _, listed = description.partition("Attributes:")
    found = re.findall(r"^ +(\w+): (.*(?:\n +(?! |\w+: ).*)*)", listed, re.MULTILINE)
    return said, {field: " ".join(text.split()) for field, text in found}


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words, as HTML: `string`, `list of number`, `object of number`, `A or B`; names are links."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "const" in schema or "enum" in schema:
        return " or ".join(escape(repr(value)) for value in schema.get("enum", [schema.get("const")]))
    several = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    if several:
        return " or ".join(dict.fromkeys(_kind(part) for part in several))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in filter(None, map(str.strip, text.split("\n\n"))))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _cell(content: object) -> str:
    return content if isinstance(content, Html) else escape(str(content))
