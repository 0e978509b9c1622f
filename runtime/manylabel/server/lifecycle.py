"""Runs the application until a signal ends it: SIGTERM or SIGINT drains, a second one forces, SIGHUP reloads."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from manylabel.classifier import Classifier
from manylabel.drift import baseline as scores
from manylabel.errors import InputError
from manylabel.hub.hub_ref import name_of
from manylabel.server.app import App
from manylabel.server.http.errors import Refusal
from manylabel.server.http.uvicorn_protocol import DeadlineProtocol
from manylabel.server.load_shedding import Gate
from manylabel.server.observability.access_log import Recorder, log_access
from manylabel.server.observability.metrics import Metrics
from manylabel.server.scheduler import Policy
from manylabel.server.served_model import Model
from manylabel.server.service import Service
from manylabel.server.settings import Settings
from manylabel.server.worker_pool import Engine

BACKLOG = 2048
KEEP_ALIVE = 75.0
"""Seconds that a connection may idle between requests: longer than what load balancers use (60 commonly), so that it is
not the server that closes a connection which they are about to use."""

SWITCH = 0.0002
"""Seconds that a thread may hold the interpreter while another waits for it, in place of Python's 0.005. The event loop
and the threads that compute hand it to and fro several times a text; at twice what the server can do, texts answered
rise by a third, and refusals that took 3 s take 50 ms (load_tests, two cores)."""

logger = logging.getLogger("manylabel.server")
Load = Callable[[], Classifier]


def create(
    load: Load, settings: Settings, *, workers: int | None = None, recorders: Sequence[Recorder] = ()
) -> tuple[ASGIApp, Service]:
    """The application around a classifier that answers its probes, and what it shares.

    Args:
        load: Loads the classifier, now and at every reload.
        settings: How the server answers.
        workers: Threads that compute on the CPU; `None`: as many as the classifier has.
        recorders: Are told of every request that is over, besides the metrics and the log.

    Raises:
        ManylabelError: The bundle cannot be loaded, or does not answer its probes.
    """
    metrics = Metrics()
    model = Model(settings.name, load_checked(load))
    cuda = model.classifier.device == "cuda"
    policy = Policy(
        workers=1 if cuda else workers or model.classifier.threads,
        max_queue_tokens=settings.max_queue_tokens,
        batch_tokens=settings.batch_tokens if cuda else 0,  # a text at a time: see docs/serving.md, Measuring
        batch_wait=settings.batch_wait if cuda else 0.0,
    )
    service = Service(settings, Engine(model, policy, metrics.computed), metrics, partial(load_checked, load))
    app: ASGIApp = App(service, [metrics.finished, log_access, *recorders])
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id", "X-Timeout-Ms"],
            expose_headers=["X-Request-Id", "Server-Timing", "Retry-After"],
        )
    return app, service


def load_checked(load: Load) -> Classifier:
    """A classifier whose bundle is whole, and that answers its probes on this machine.

    All that may fail is tried here, before it takes another's place.

    Raises:
        ManylabelError: It is not, or does not.
    """
    classifier = load()
    classifier.bundle.verify()
    classifier.check_probes()
    if scores.FILE in classifier.bundle.manifest.files:
        scores.Reference.read(classifier.bundle)
    return classifier


def uvicorn_config(app: ASGIApp, service: Service) -> uvicorn.Config:
    """How uvicorn serves the application."""
    settings = service.settings
    return uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]  # a type there
            DeadlineProtocol, header_timeout=settings.header_timeout, refuse=Gate(service).refusal
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(KEEP_ALIVE),
        timeout_graceful_shutdown=max(1, int(settings.grace)),
    )


class _Server(uvicorn.Server):
    """uvicorn's server, with the signals left to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: `serve` has them."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: The address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        raise InputError(
            f"cannot listen on {host} port {port}: {exc.strerror}. Choose others with --host, --port."
        ) from exc
    return listener


def serve(app: ASGIApp, service: Service, listener: socket.socket) -> None:
    """Answer until a signal ends it. A second one ends the process at once."""
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()  # what is loaded stays: to look through it stops all threads for 12 to 16 ms, most often in a surge
    asyncio.run(_serve(app, service, listener))


async def _serve(app: ASGIApp, service: Service, listener: socket.socket) -> None:
    server = _Server(uvicorn_config(app, service))
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()  # else the loop may forget them

    def start(name: signal.Signals) -> None:
        task = loop.create_task(_reload(service) if name is signal.SIGHUP else _drain(service, server))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def end(name: signal.Signals) -> None:
        if service.phase == "draining":
            logger.warning("%s again: ending at once", name.name)
            logging.shutdown()
            os._exit(128 + name)
        logger.info("%s: no new texts are taken, %d requests are being answered", name.name, service.active)
        service.phase = "draining"
        start(name)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end, name)
    loop.add_signal_handler(signal.SIGHUP, start, signal.SIGHUP)
    service.phase = "ready"
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("%s %s on http://%s:%d", service.model.name, service.model.version, shown, port)
    await server.serve([listener])
    service.engine.close()
    logger.info("ended")


async def _drain(service: Service, server: uvicorn.Server) -> None:
    """Let the server end once what it took is answered, or its grace is over."""
    try:
        async with asyncio.timeout(service.settings.grace):
            await service.idle()
    except TimeoutError:
        logger.warning("%d requests are given up: the grace of %g s is over", service.active, service.settings.grace)
        await service.give_up()
    server.should_exit = True


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except Refusal as exc:
        logger.error("%s", exc.detail)  # the sentence says it


def warn_if_open(host: str, settings: Settings) -> None:
    """Say so where anybody on the network may ask."""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not settings.api_key:
        logger.warning("%s is not loopback and there is no key: whoever reaches it may ask. Set --api-key-file.", host)


def default_name(bundle: Path) -> str:
    """What a bundle's model is called where nothing else is said: with what a path can hold."""
    name = name_of(bundle)
    return "".join(mark if mark.isascii() and (mark.isalnum() or mark in "._-") else "-" for mark in name) or "model"


def log_to_stderr(formatter: logging.Formatter) -> None:
    """Send the server's log and uvicorn's to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    for name in ("manylabel", "uvicorn"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    logging.getLogger("manylabel").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
