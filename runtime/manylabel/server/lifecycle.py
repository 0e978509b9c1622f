"""Lifecycle of the server process: start, graceful shutdown (SIGTERM, SIGINT), forced exit, reload (SIGHUP).

The first SIGTERM or SIGINT drains the server; a second one ends the process immediately.
"""

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
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

from manylabel.errors import missing_extra

if find_spec("uvicorn") is None:
    raise missing_extra("server", "uvicorn")

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from manylabel.classifier import Classifier
from manylabel.drift.baseline import BASELINE_FILE, ScoreBaseline
from manylabel.errors import InputError
from manylabel.hub.client import bundle_name
from manylabel.server.app import App
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.http.uvicorn_protocol import DeadlineProtocol
from manylabel.server.load_shedding import AdmissionControl
from manylabel.server.observability.access_log import Recorder, log_request
from manylabel.server.observability.metrics import ServerMetrics
from manylabel.server.scheduler import SchedulingPolicy
from manylabel.server.served_model import ServedModel
from manylabel.server.service import Service
from manylabel.server.settings import Settings
from manylabel.server.worker_pool import WorkerPool

BACKLOG = 2048
KEEP_ALIVE = 75.0
"""Seconds that a connection may be idle between requests. Longer than load balancers keep theirs (commonly 60), so that
the server never closes a connection that a load balancer is about to use."""

SWITCH_INTERVAL = 0.0002
"""Seconds that a thread may hold the interpreter lock while another waits for it; Python's default is 0.005. The event
loop and the worker threads hand it over several times per text. At twice the server's capacity, throughput rises by a
third, and rejections that took 3 s take 50 ms (load_tests, two cores)."""

logger = logging.getLogger("manylabel.server")
LoadClassifier = Callable[[], Classifier]


def create_app(
    load: LoadClassifier, settings: Settings, *, workers: int | None = None, recorders: Sequence[Recorder] = ()
) -> tuple[ASGIApp, Service]:
    """Load a bundle and create the ASGI application that serves it.

    The application can run under any ASGI server once `service.phase` is `"ready"`. Only `serve` adds load shedding,
    the deadline for headers and the handling of signals.

    Args:
        load: Loads the classifier, now and at every reload.
        settings: Limits, timeouts and access rules.
        workers: Worker threads on CPU; `None` for as many as the classifier has threads.
        recorders: Called with every finished request, in addition to the metrics and the access log.

    Returns:
        The application, and the service behind its routes.

    Raises:
        ManylabelError: The bundle cannot be loaded or fails its probes.

    Example:
        >>> from manylabel import Classifier
        >>> app, service = create_app(lambda: Classifier.load("bundle", device="cpu"), Settings("reviews"))
        >>> service.model.name, service.phase
        ('reviews', 'starting')
        >>> service.pool.close()
    """
    metrics = ServerMetrics()
    model = ServedModel(settings.name, load_verified(load))
    cuda = model.classifier.device == "cuda"
    policy = SchedulingPolicy(
        workers=1 if cuda else workers or model.classifier.threads,
        max_queue_tokens=settings.max_queue_tokens,
        batch_tokens=settings.batch_tokens if cuda else 0,  # CPU: one text at a time (docs/decisions/0014)
        batch_wait=settings.batch_wait if cuda else 0.0,
    )
    pool = WorkerPool(model, policy, metrics.record_batch)
    service = Service(settings, pool, metrics, partial(load_verified, load))
    app: ASGIApp = App(service, [metrics.record_request, log_request, *recorders])
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id", "X-Timeout-Ms"],
            expose_headers=["X-Request-Id", "Server-Timing", "Retry-After"],
        )
    return app, service


def load_verified(load: LoadClassifier) -> Classifier:
    """Load a classifier, verify its bundle's checksums, and run its probes on this machine.

    Everything that can fail is tried here, before the classifier replaces another one.

    Raises:
        ManylabelError: The bundle cannot be loaded, fails verification, or fails its probes.
    """
    classifier = load()
    classifier.bundle.verify()
    classifier.check_probes()
    if BASELINE_FILE in classifier.bundle.manifest.files:
        ScoreBaseline.read(classifier.bundle)
    return classifier


def build_uvicorn_config(app: ASGIApp, service: Service) -> uvicorn.Config:
    """Configure uvicorn for the application."""
    settings = service.settings
    return uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]  # uvicorn declares a class, and calls it
            DeadlineProtocol, header_timeout=settings.header_timeout, admission_check=AdmissionControl(service).check
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
    """uvicorn's server without its signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`."""
        yield


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Host name or address.
        port: Port; 0 for any free one.

    Raises:
        InputError: The address is invalid or in use.

    Example:
        >>> with bind_socket("127.0.0.1", 0) as listener:
        ...     listener.getsockname()[0]
        '127.0.0.1'
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        raise InputError(
            f"cannot listen on {host} port {port}: {exc.strerror}. Choose another address with --host and --port."
        ) from exc
    return listener


def serve(app: ASGIApp, service: Service, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. A second signal ends the process immediately.

    Args:
        app: The application from `create_app`, or one that wraps it.
        service: The service from `create_app`.
        listener: The socket from `bind_socket`.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()  # the loaded objects stay: scanning them stops all threads for 12 to 16 ms, most often under load
    asyncio.run(_serve(app, service, listener))


async def _serve(app: ASGIApp, service: Service, listener: socket.socket) -> None:
    server = _Server(build_uvicorn_config(app, service))
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only

    def start(name: signal.Signals) -> None:
        task = loop.create_task(_reload(service) if name is signal.SIGHUP else _drain(service, server))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def shut_down(name: signal.Signals) -> None:
        if service.phase == "draining":
            logger.warning("received %s again: exiting immediately", name.name)
            logging.shutdown()
            os._exit(128 + name)
        logger.info("received %s: draining; requests in progress: %d", name.name, service.active)
        service.phase = "draining"
        start(name)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, shut_down, name)
    loop.add_signal_handler(signal.SIGHUP, start, signal.SIGHUP)
    service.phase = "ready"
    host, port = listener.getsockname()[:2]
    url_host = f"[{host}]" if ":" in host else host
    logger.info("serving %s %s on http://%s:%d", service.model.name, service.model.version, url_host, port)
    await server.serve([listener])
    service.pool.close()
    logger.info("shutdown complete")


async def _drain(service: Service, server: uvicorn.Server) -> None:
    """Stop the server when the requests in progress are finished, or when the grace period is over."""
    grace = service.settings.grace
    try:
        async with asyncio.timeout(grace):
            await service.wait_until_idle()
    except TimeoutError:
        logger.warning("the grace period of %g s is over; requests aborted: %d", grace, service.active)
        await service.abort()
    server.should_exit = True


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except HTTPRefusal as exc:
        logger.error("%s", exc.detail)  # a traceback would add nothing


def warn_if_unauthenticated(host: str, settings: Settings) -> None:
    """Log a warning if anybody on the network can send requests."""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not settings.api_key:
        logger.warning(
            "listening on %s without an API key: anybody who can reach it can send requests. Set --api-key-file.", host
        )


def default_model_name(bundle: Path) -> str:
    """Return a bundle's name, with the characters that a URL cannot contain replaced by `-`.

    Example:
        >>> default_model_name(Path("models/my reviews"))
        'my-reviews'
    """
    name = bundle_name(bundle)
    return "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name) or "model"


def configure_logging(formatter: logging.Formatter) -> None:
    """Send the logs of the server and of uvicorn to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    for name in ("manylabel", "uvicorn"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    logging.getLogger("manylabel").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
