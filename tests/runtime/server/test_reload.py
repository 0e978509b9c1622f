"""A reload frees the replaced model immediately, without the garbage collector.

The objects that the server starts with are frozen (`gc.freeze`), so the collector would never find them.
"""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest
from tests.runtime.conftest import Resign

from manylabel import Classifier

pytest.importorskip("uvicorn")


def test_replaced_model_is_freed_without_gc(bundle: Path, own_bundle: Path, resign: Resign) -> None:
    from manylabel.server.lifecycle import create_app
    from manylabel.server.settings import Settings

    new = resign(own_bundle, lambda manifest: manifest["source"].update(again=True))
    folders = iter([bundle, new])
    _, service = create_app(lambda: Classifier.load(next(folders), device="cpu", threads=1), Settings(name="tiny"))
    replaced = weakref.ref(service.model.classifier)
    gc.disable()
    try:
        assert asyncio.run(service.reload())
        assert replaced() is None
    finally:
        gc.enable()
        service.pool.close()
