"""The page at `/`, the documentation at `/docs` and the document that it shows, as routes."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.server.http.json_codec import reply
from manylabel.server.http.openapi import document
from manylabel.server.page import Asset, assets, docs_page
from manylabel.server.service import Service


class PageRoutes:
    """`/`, its files under `/page/`, `/docs` and `/openapi.json`."""

    protocol = "page"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._assets = assets()

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            *(Route(path, self.asset, methods=["GET"]) for path in self._assets),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def asset(self, request: Request) -> Response:
        """The page or a part of it."""
        return _send(self._assets[request.url.path])

    async def docs(self, request: Request) -> Response:
        """The documentation of the routes."""
        return _send(docs_page(document(self._service.model.name)))

    async def openapi(self, request: Request) -> Response:
        """The document of the routes."""
        return reply(document(self._service.model.name))


def _send(asset: Asset) -> Response:
    return Response(asset.body, 200, dict(asset.headers), asset.media_type)
