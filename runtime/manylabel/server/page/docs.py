"""The API documentation at `/docs`: an OpenAPI document rendered as HTML, without a script."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

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
    """A string that is already escaped."""

    __slots__ = ()


def render_docs(openapi: Mapping[str, Any]) -> str:
    """Render an OpenAPI 3 document as an HTML page: the operations, then the schemas.

    All strings of the document are escaped.

    Example:
        >>> "<title>A &amp; B</title>" in render_docs({"info": {"title": "A & B"}})
        True
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
    return _PAGE.format(title=title, version=version, body="\n".join(parts))


def _operation(method: str, path: str, operation: Mapping[str, Any], shared: Sequence[Any]) -> str:
    summary = escape(str(operation.get("summary", "")))
    parameters = [
        (each["name"], each["in"], each.get("description", ""))
        for each in (*shared, *operation.get("parameters", ()))
        if "name" in each
    ]
    body = _content(operation.get("requestBody", {}))
    responses = [
        (status, response.get("description", ""), *_content(response))
        for status, response in operation.get("responses", {}).items()
    ]
    return "".join(
        (
            f'<details class="card operation"><summary><code class="method">{method.upper()}</code> ',
            f'<code>{escape(path)}</code> <span class="quiet">{summary}</span></summary>',
            _paragraphs(operation.get("description", "")),
            _table(("parameter", "in", ""), parameters) if parameters else "",
            _table(("request", "media type"), [body]) if body else "",
            _table(("status", "", "response", "media type"), responses),
            "</details>",
        )
    )


def _content(holder: Mapping[str, Any]) -> tuple[Html | str, ...]:
    """Return the type and the media type of the first content; empty if there is no body."""
    for media_type, content in holder.get("content", {}).items():
        return Html(_type_name(content.get("schema", {}))), str(media_type)
    return ()


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    description, fields = _split_attributes(str(schema.get("description", "")))
    required = schema.get("required", ())
    rows = [
        (
            field if field in required else f"{field}?",
            Html(_type_name(property_)),
            property_.get("description") or fields.get(field, ""),
        )
        for field, property_ in schema.get("properties", {}).items()
    ]
    table = _table(("field", "type", ""), rows) if rows else f"<p>{_type_name(schema)}</p>"
    anchor = escape(f"schema-{name}")
    return f'<section class="card" id="{anchor}"><h3>{escape(name)}</h3>{_paragraphs(description)}{table}</section>'


def _split_attributes(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text and the descriptions of its fields under `Attributes:`."""
    text, _, attributes = docstring.partition("Attributes:")
    entries = re.findall(r"^ +(\w+): (.*(?:\n +(?! |\w+: ).*)*)", attributes, re.MULTILINE)
    return text, {field: " ".join(description.split()) for field, description in entries}


def _type_name(schema: Mapping[str, Any]) -> str:
    """Describe a type as HTML: `string`, `list of number`, `object of number`, `A or B`. Names of schemas are links."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "const" in schema or "enum" in schema:
        return " or ".join(escape(repr(value)) for value in schema.get("enum", [schema.get("const")]))
    alternatives = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    if alternatives:
        return " or ".join(dict.fromkeys(_type_name(each) for each in alternatives))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type_name(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in filter(None, map(str.strip, text.split("\n\n"))))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _cell(content: object) -> str:
    return content if isinstance(content, Html) else escape(str(content))
