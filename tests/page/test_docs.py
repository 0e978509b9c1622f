"""The API documentation at `/docs`, and the security headers of the page's files."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any
from urllib.request import urlopen

import pytest

from manylabel.server.page.docs import render_docs

DOCUMENT: dict[str, Any] = {
    "info": {"title": "A & B", "version": "1", "description": "First.\n\nSecond <script>."},
    "paths": {
        "/answer": {
            "post": {
                "summary": "Answers <b>",
                "parameters": [{"name": "depth", "in": "query", "description": "How <deep>"}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
                "responses": {"200": {"description": "Fine"}, "422": {"description": "No <i>"}},
            },
        },
    },
    "components": {
        "schemas": {
            "Ask": {
                "description": "What is asked.\n\n    Attributes:\n        text: The <text>,\n"
                "            of two lines.\n        n: How many.",
                "required": ["text"],
                "properties": {
                    "text": {"type": "string"},
                    "n": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "limits": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Limit"}},
                },
            },
            "Limit": {"enum": ["<low>", "high"]},
        }
    },
}


class Reader(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


@pytest.fixture(scope="module")
def page() -> Reader:
    return Reader(render_docs(DOCUMENT))


def test_docs_page_lists_operations_and_schemas(page: Reader) -> None:
    lines = page.text.split("\n")
    for line in ("A & B", "First.", "/answer", "POST", "depth", "422", "text", "n?", "How many.", "Limit"):
        assert line in lines
    assert "integer or null" in lines
    assert "object of " in lines


def test_docs_page_describes_fields(page: Reader) -> None:
    assert "The <text>, of two lines." in page.text.split("\n")
    assert "Attributes" not in page.text


def test_docs_page_escapes_strings(page: Reader) -> None:
    assert not {"script", "b", "i", "text", "deep", "low"} & set(page.tags)
    for string in ("Second <script>.", "Answers <b>", "How <deep>", "No <i>", "'<low>' or 'high'"):
        assert string in page.text


def test_docs_page_internal_links_resolve() -> None:
    page = render_docs(DOCUMENT)
    for name in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{name}"' in page
    assert 'href="#schema-Ask"' in page


def test_docs_page_for_empty_document() -> None:
    assert "<h2>Schemas</h2>" in render_docs({})


@pytest.mark.parametrize(
    ("path", "name"),
    [("/", "index.html"), ("/page/page.css", "page.css"), ("/page/page.js", "page.js"), ("/docs", None)],
)
def test_page_files_have_a_strict_csp(url: str, path: str, name: str | None) -> None:
    with urlopen(url + path, timeout=30) as response:
        body = response.read().decode()
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers.get_content_charset() == "utf-8"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert name is None or body == files("manylabel.server.page").joinpath(name).read_text(encoding="utf-8")
    external = re.findall(r"""(?:src|href)=["'](?:https?:)?//|url\(|@import|\bimport\(""", body)
    assert external == []
    assert " style=" not in body.replace("{ style =", "")


def test_docs_page_describes_v1_routes(url: str) -> None:
    with urlopen(f"{url}/docs", timeout=30) as response:
        text = Reader(response.read().decode()).text
    for each in ("/v1/classify", "/predict", "ClassifyRequest", "thresholds?"):
        assert each in text
