"""The page at `/docs`: an OpenAPI document as plain HTML, written by the server, without a script."""

from collections.abc import Iterator, Mapping
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
<link rel="stylesheet" href="page.css">
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


def docs_page(openapi: Mapping[str, Any]) -> Asset:
    """The page for an OpenAPI 3 document.

    Every string of the document is escaped; references within it are followed, once each on the way down.
    """
    info = openapi.get("info", {})
    parts = [
        *_paragraphs(info.get("description", "")),
        *(section for path, item in openapi.get("paths", {}).items() for section in _path(path, item, openapi)),
    ]
    page = _PAGE.format(
        title=escape(str(info.get("title", "API"))), version=escape(str(info.get("version", ""))), body="\n".join(parts)
    )
    return Asset(page.encode(), "text/html; charset=utf-8")


def _path(path: str, item: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    for method in METHODS:
        if method in item:
            yield from _operation(method, path, item[method], [*item.get("parameters", ())], document)


def _operation(
    method: str, path: str, operation: Mapping[str, Any], shared: list[Any], document: Mapping[str, Any]
) -> Iterator[str]:
    yield '<details class="card operation"><summary>'
    yield f'<code class="method">{method.upper()}</code> <code>{escape(path)}</code> '
    yield f'<span class="quiet">{escape(str(operation.get("summary", "")))}</span></summary>'
    yield from _paragraphs(operation.get("description", ""))
    parameters = [_resolved(one, document) for one in (*shared, *operation.get("parameters", ()))]
    if parameters:
        yield "<h3>Parameters</h3>" + _table(
            ("name", "in", "type", ""),
            [
                (one.get("name"), one.get("in"), _kind(one.get("schema", {}), document), one.get("description", ""))
                for one in parameters
            ],
        )
    if "requestBody" in operation:
        yield "<h3>Request</h3>"
        yield from _content(_resolved(operation["requestBody"], document), document)
    for status, response in operation.get("responses", {}).items():
        answer = _resolved(response, document)
        yield f"<h3>{escape(str(status))} <small>{escape(str(answer.get('description', '')))}</small></h3>"
        yield from _content(answer, document)
    yield "</details>"


def _content(holder: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    for media_type, content in holder.get("content", {}).items():
        yield f'<p class="quiet">{escape(str(media_type))}</p>'
        yield from _schema(content.get("schema", {}), document, ())


def _schema(schema: Mapping[str, Any], document: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    """A schema's fields as a table, and below it the schemas that these refer to."""
    name = str(schema.get("$ref", ""))
    if name in above:
        return
    found = _resolved(schema, document)
    below = (*above, name) if name else above
    yield from _paragraphs(found.get("description", "") if found.get("properties") else "")
    if found.get("properties"):
        required = found.get("required", ())
        rows = [
            (field if field in required else f"{field}?", _kind(of, document), of.get("description", ""))
            for field, of in found["properties"].items()
        ]
        yield _table(("field", "type", ""), rows)
    elif not _parts(found):
        yield f"<p><code>{escape(_kind(found, document))}</code></p>"
    for part in (*_parts(found), *(inner for of in found.get("properties", {}).values() for inner in _references(of))):
        yield from _schema(part, document, below)


def _parts(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    several = [*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())]
    return [part for part in (*several, schema.get("items", {})) if part]


def _references(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The named schemas that a field's type is made of."""
    if "$ref" in schema:
        yield schema
    extra = schema.get("additionalProperties")
    for part in (*_parts(schema), *([extra] if isinstance(extra, Mapping) else [])):
        yield from _references(part)


def _kind(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """A type in words: `string`, `list of number`, `object by name of number`, `A or B`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema or "enum" in schema:
        return " or ".join(repr(value) for value in schema.get("enum", [schema.get("const")]))
    several = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    if several:
        return " or ".join(dict.fromkeys(_kind(part, document) for part in several))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}), document)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'], document)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _resolved(part: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `$ref` within the document points to, or the part itself."""
    target: Any = part
    if "$ref" in part:
        target = document
        for step in str(part["$ref"]).removeprefix("#/").split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~"), {})
    return target if isinstance(target, Mapping) else {}


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, map(str.strip, str(text).split("\n\n"))):
        yield f"<p>{escape(paragraph)}</p>"


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
