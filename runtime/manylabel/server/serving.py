"""Runs the application."""

import asyncio
from pathlib import Path

import uvicorn

from manylabel.classifier import Classifier
from manylabel.cores import available_cores
from manylabel.server.app import App
from manylabel.server.engine import Engine
from manylabel.server.exchanges import log_access
from manylabel.server.metrics import Metrics
from manylabel.server.model import Model
from manylabel.server.scheduler import Policy
from manylabel.server.service import Service
from manylabel.server.settings import Settings


def create(classifier: Classifier, settings: Settings, workers: int | None = None) -> tuple[App, Service]:
    """The application around a classifier, and what it shares."""
    cuda = classifier.device == "cuda"
    policy = Policy(
        workers=1 if cuda else workers or available_cores(),
        max_queue_tokens=settings.max_queue_tokens,
        batch_tokens=settings.batch_tokens if cuda else 0,
        batch_wait=settings.batch_wait if cuda else 0.0,
    )
    metrics = Metrics()
    service = Service(settings, Engine(Model(settings.name, classifier), policy, metrics.computed), metrics)
    return App(service, [metrics.finished, log_access]), service


def serve(classifier: Classifier, settings: Settings, *, host: str, port: int, workers: int | None = None) -> None:
    """Answer until a signal ends it."""
    app, service = create(classifier, settings, workers)
    classifier.check_probes()
    service.phase = "ready"
    config = uvicorn.Config(app, host=host, port=port, lifespan="off", access_log=False, server_header=False)
    asyncio.run(uvicorn.Server(config).serve())


def default_name(bundle: Path) -> str:
    """What a bundle's model is called where nothing else is said: its folder."""
    return bundle.absolute().name
