"""A real server on loopback, in this process."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from manylabel import Classifier


@dataclass(frozen=True)
class RunningServer:
    """A server that accepts requests.

    Attributes:
        url: Its URL, without a trailing slash.
        service: The service behind its routes.
    """

    url: str
    service: Any

    def metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        text: str = self.service.metrics.expose().decode()
        return text

    def pretend_queued_tokens(self, tokens: int) -> None:
        """Make the server believe that its queue holds so many tokens.

        This sets a private attribute, because workers would empty a queue that is really full before the requests of a
        test arrive.
        """
        self.service.pool._scheduler.queued_tokens = tokens


@contextmanager
def running(classifier: Classifier, **settings: Any) -> Iterator[RunningServer]:
    """Run a server in a thread, on a free port; its model is called `tiny`."""
    import uvicorn  # not at the top: without the extra `server`, the tests of this folder are skipped

    from manylabel.server.lifecycle import build_uvicorn_config, create_app
    from manylabel.server.settings import Settings

    app, service = create_app(lambda: classifier, Settings(**{"name": "tiny", **settings}), workers=2)
    service.phase = "ready"
    config = build_uvicorn_config(app, service)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield RunningServer(f"http://127.0.0.1:{port}", service)
    finally:
        server.should_exit = True
        thread.join(10)
        service.pool.close()


@pytest.fixture(scope="session")
def server(classifier: Classifier) -> Iterator[RunningServer]:
    """Return a server with default settings."""
    with running(classifier) as started:
        yield started


Run = Callable[..., AbstractContextManager[RunningServer]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Return a context manager that runs a server with given settings."""
    return running
