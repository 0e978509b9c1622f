"""A real server on loopback, in this process, and a client for it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from manylabel import Classifier


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        url: Where, without a slash at the end.
        service: What its routes share.
    """

    url: str
    service: Any


@contextmanager
def running(classifier: Classifier, **settings: Any) -> Iterator[Running]:
    """Run a server in a thread, on a free port, with the model called `tiny`."""
    import uvicorn  # here: the bare environment has no server, and its tests skip themselves

    from manylabel.server.lifecycle import build_uvicorn_config, create
    from manylabel.server.settings import Settings

    chosen = Settings(**{"name": "tiny", **settings})
    app, service = create(lambda: classifier, chosen, workers=2)
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
        yield Running(f"http://127.0.0.1:{port}", service)
    finally:
        server.should_exit = True
        thread.join(10)
        service.engine.close()


@pytest.fixture(scope="session")
def server(classifier: Classifier) -> Iterator[Running]:
    """A server with everything as it comes."""
    with running(classifier) as started:
        yield started


Run = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a server of a classifier with settings of one's own."""
    return running
