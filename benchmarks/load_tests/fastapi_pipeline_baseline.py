"""`transformers.pipeline` behind FastAPI, as its users write it.

Run in the rivals' environment: `rival.py CHECKPOINT PORT`.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()
classifier = pipeline("text-classification", model=sys.argv[1], device="cpu", top_k=None, function_to_apply="sigmoid")


class Asked(BaseModel):
    """One text."""

    text: str


@app.post("/classify")
def classify(asked: Asked) -> list[dict[str, str | float]]:
    """Every label with its probability. FastAPI runs it on a thread of its pool."""
    found: list[list[dict[str, str | float]]] = classifier([asked.text], truncation=True)
    return found[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
