"""Runs the application."""

import asyncio
from pathlib import Path

import uvicorn

from manylabel.classifier import Classifier
from manylabel.cores import available_cores
from manylabel.server.app import App
from manylabel.server.engine import Engine, Model
from manylabel.server.service import Service
from manylabel.server.settings import Settings


def create(classifier: Classifier, settings: Settings, workers: int | None = None) -> tuple[App, Service]:
    """The application around a classifier, and what it shares."""
    service = Service(settings, Engine(Model(settings.name, classifier), workers or available_cores()))
    return App(service), service


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
