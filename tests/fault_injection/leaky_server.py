"""The control of `soak`: the server with a handler that keeps a little of every request, like an unbounded cache.

`python -m tests.fault_injection.leaky_server BUNDLE PORT`
"""

import os
import sys
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from manylabel import Classifier
from manylabel.server.lifecycle import bind_socket, create_app, serve
from manylabel.server.settings import Settings

REQUESTS_PER_LEAKED_DESCRIPTOR = 1_000
"""One descriptor is left open for this many requests."""


class LeakyApp:
    """An application that remembers the client of every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: list[object] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, and keep the client's address."""
        self._kept.append(scope["client"])
        if len(self._kept) % REQUESTS_PER_LEAKED_DESCRIPTOR == 0:
            os.dup(0)
        await self._app(scope, receive, send)


if __name__ == "__main__":
    app, service = create_app(partial(Classifier.load, sys.argv[1], device="cpu"), Settings("soak"))
    serve(LeakyApp(app), service, bind_socket("127.0.0.1", int(sys.argv[2])))
