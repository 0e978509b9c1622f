"""The page at `/`, the documentation at `/docs` and the document that it shows. Files of `page/`, read once."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.server.codec import reply
from manylabel.server.openapi import document
from manylabel.server.refusals import Refusal
from manylabel.server.service import Service

FOLDER = Path(__file__).parent.parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class PageRoutes:
    """`/` is `index.html`, `/docs` is `docs.html`, and `/page/NAME` is any file beside them."""

    protocol = "page"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._files = {path.name: path.read_bytes() for path in FOLDER.glob("*") if path.suffix in TYPES}

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route("/", self.index, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/page/{name}", self.file, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def index(self, request: Request) -> Response:
        """The page."""
        return self._send("index.html")

    async def docs(self, request: Request) -> Response:
        """The documentation of the routes."""
        return self._send("docs.html")

    async def file(self, request: Request) -> Response:
        """A part of them."""
        return self._send(request.path_params["name"])

    async def openapi(self, request: Request) -> Response:
        """The document of the routes."""
        return reply(document(self._service.model.name))

    def _send(self, name: str) -> Response:
        if name not in self._files:
            raise Refusal(404, "not_found", f"there is no file {name[:80]!r}.")
        return Response(self._files[name], 200, HEADERS, TYPES[Path(name).suffix])
