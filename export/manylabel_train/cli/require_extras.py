"""What commands that need PyTorch and friends begin with: are they installed, and silent about themselves?"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any

import click

from manylabel.errors import MissingDependency
from manylabel.system.resource_errors import loading

WORKBENCH = ("torch", "transformers", "accelerate", "onnx", "sklearn", "pyarrow")
ROOM = 1024
"""MB that these take when they are loaded: 992 with torch 2.13 for CPUs, which is at times killed by less."""


def needs_workbench(command: Callable[..., None]) -> Callable[..., None]:
    """Say the line to type where PyTorch and friends are absent."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        try:
            with loading("torch", ROOM):
                for name in WORKBENCH:
                    import_module(name)
        except ImportError as exc:
            raise MissingDependency(
                f'{exc.name} is required to train and export. pip install "manylabel[export,cpu]"'
            ) from exc
        with _quiet():
            command(**options)

    return guarded


@contextmanager
def _quiet() -> Iterator[None]:
    """Our own warnings as one line each; what libraries say about themselves not at all."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module="manylabel")
            warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
