"""The control of `soak`: the server with a handler that keeps a little of every request, as a careless cache does.

`python -m tests.fault_injection.leaky_server BUNDLE PORT`
"""

import os
import sys
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from manylabel import Classifier
from manylabel.server.lifecycle import bind_socket, create_app, serve
from manylabel.server.settings import Settings

EVERY = 1_000
"""Of so many requests one leaves a descriptor open."""


class Leaking:
    """An application that remembers who asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: list[object] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and forget to forget."""
        self._kept.append(scope["client"])
        if len(self._kept) % EVERY == 0:
            os.dup(0)
        await self._app(scope, receive, send)


if __name__ == "__main__":
    app, service = create_app(partial(Classifier.load, sys.argv[1], device="cpu"), Settings("soak"))
    serve(Leaking(app), service, bind_socket("127.0.0.1", int(sys.argv[2])))
