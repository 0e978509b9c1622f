"""The servers that `manylabel serve` is compared with, each in an environment of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manylabel_bench.load.servers import HOST, ServerSpec

FASTAPI_PIPELINE = "FastAPI + transformers.pipeline"
INFINITY = "infinity-emb"
FASTAPI_SCRIPT = Path(__file__).with_name("fastapi_pipeline_baseline.py")


def fastapi_pipeline_server(python: Path, checkpoint: Path) -> ServerSpec:
    """Return the spec of `transformers.pipeline` behind FastAPI."""
    return ServerSpec(
        FASTAPI_PIPELINE,
        lambda port: [str(python), str(FASTAPI_SCRIPT), str(checkpoint), str(port)],
        "/classify",
        lambda text: {"text": text},
        _scores_by_label,
    )


def infinity_server(python: Path, checkpoint: Path) -> ServerSpec:
    """Return the spec of infinity-emb, which batches dynamically, on PyTorch."""
    program = str(python.with_name("infinity_emb"))
    model = ["--model-id", str(checkpoint), "--served-model-name", "m"]
    options = ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--host", HOST, "--log-level", "error"]
    return ServerSpec(
        INFINITY,
        lambda port: [program, "v2", *model, *options, "--port", str(port)],
        "/classify",
        lambda text: {"model": "m", "input": [text]},
        lambda answer: _scores_by_label(answer["data"][0]),
    )


def _scores_by_label(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in rows}
