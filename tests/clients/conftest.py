"""A running server for other people's clients, and what it has to say."""

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
    """A server of the tiny bundle, called `tiny`."""
    with serving(bundle, "--name", "tiny") as started:
        yield started


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    """What answers without a server: every client has to get the same numbers."""
    return Classifier.load(bundle, device="cpu")


@pytest.fixture(scope="session")
def version(bundle: Path) -> str:
    """The bundle's version in the server's paths."""
    return str(json.loads((bundle / "bundle.json").read_text())["digest"])[:12]
