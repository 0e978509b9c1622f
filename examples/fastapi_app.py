"""A classifier behind FastAPI, with your own request format. Needs `pip install "manylabel[cpu]" fastapi uvicorn`.

BUNDLE=build/demo/bundle uvicorn --app-dir examples fastapi_app:app
curl -H 'Content-Type: application/json' -d '{"texts": ["Great fabric, rude courier."]}' http://127.0.0.1:8000/labels
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from manylabel import Classifier


class Reviews(BaseModel):
    """A request, with limits on the number and length of its texts."""

    texts: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(max_length=256)]


@asynccontextmanager
async def load(app: FastAPI) -> AsyncIterator[None]:
    """Load in every worker before its first request, and after gunicorn has forked it."""
    app.state.classifier = Classifier.load(os.environ["BUNDLE"])
    yield


app = FastAPI(lifespan=load)


@app.post("/labels")
def labels(reviews: Reviews, request: Request) -> list[list[str]]:
    """Return the labels of every text.

    Not `async`: FastAPI runs it on a thread, and the event loop stays free.
    """
    classifier: Classifier = request.app.state.classifier
    return classifier.predict(reviews.texts)
