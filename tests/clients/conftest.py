"""A running server for the clients of other projects, and its expected results."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.serving import serving

from manylabel import Classifier

TEXTS = ("the courier was late", "very good and cheap", "die rechnung war zu teuer, not gut")
LONG = "the parcel was late and the invoice is bad " * 20


@pytest.fixture(scope="session")
def url(bundle: Path) -> Iterator[str]:
    """Return the URL of a server of the tiny bundle; its model is called `tiny`."""
    with serving(bundle, "--name", "tiny") as started:
        yield started


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    """Return a classifier without a server; every client must get the same numbers."""
    return Classifier.load(bundle, device="cpu")


@pytest.fixture(scope="session")
def version(bundle: Path) -> str:
    """Return the model's version in the server's URLs."""
    return str(json.loads((bundle / "bundle.json").read_text())["digest"])[:12]
