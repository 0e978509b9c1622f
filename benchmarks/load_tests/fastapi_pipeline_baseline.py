"""Baseline server: `transformers.pipeline` behind FastAPI, as its users write it.

Runs in the baselines' environment: `fastapi_pipeline_baseline.py CHECKPOINT PORT`.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()
classifier = pipeline("text-classification", model=sys.argv[1], device="cpu", top_k=None, function_to_apply="sigmoid")


class ClassifyRequest(BaseModel):
    """A request with one text."""

    text: str


@app.post("/classify")
def classify(request: ClassifyRequest) -> list[dict[str, str | float]]:
    """Return every label with its probability. FastAPI runs this function on a thread of its pool."""
    predictions: list[list[dict[str, str | float]]] = classifier([request.text], truncation=True)
    return predictions[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
