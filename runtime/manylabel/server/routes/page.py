"""Routes of the web page: `/`, its files under `/page/`, `/docs` and `/openapi.json`, with their security headers."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.server.http.body import json_response
from manylabel.server.http.openapi import build_openapi
from manylabel.server.page.docs import render_docs
from manylabel.server.service import Service

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",  # the icon
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # with the next one: the script cannot turn a string into HTML or code
        "trusted-types 'none'",
    )
)
"""Only the server's own files are loaded, and a text stays text even if the script has a bug."""

HEADERS = {
    "Cache-Control": "no-cache",  # after an upgrade, browsers load the new page
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

ASSETS = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
}
"""The page's files by path: name and media type."""


class PageRoutes:
    """`/`, `/page/...`, `/docs` and `/openapi.json`."""

    protocol = "page"

    def __init__(self, service: Service) -> None:
        self._service = service
        folder = files("manylabel.server.page")
        self._contents = {path: folder.joinpath(name).read_bytes() for path, (name, _) in ASSETS.items()}

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
        return [
            *(Route(path, self.asset, methods=["GET"]) for path in ASSETS),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def asset(self, request: Request) -> Response:
        """Return the page, its style sheet or its script."""
        path = request.url.path
        return Response(self._contents[path], 200, HEADERS, ASSETS[path][1])

    async def docs(self, request: Request) -> Response:
        """Return the API documentation as HTML."""
        return Response(render_docs(build_openapi(self._service.model.name)), 200, HEADERS, "text/html")

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        return json_response(build_openapi(self._service.model.name))
