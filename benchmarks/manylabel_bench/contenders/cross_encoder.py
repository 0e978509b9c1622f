"""Baseline: the `CrossEncoder` of sentence-transformers with its ONNX backend, which takes any sequence classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manylabel_bench.contenders import optimum
from manylabel_bench.contenders.padded_batches import BATCH_SIZE, restore_order
from manylabel_bench.contenders.registry import ContenderConfig, Scores


class CrossEncoderContender:
    """Runs the steps of `CrossEncoder.predict`, which itself takes only pairs of texts (checked with 5.7)."""

    batching = f"sorted {BATCH_SIZE}"

    def __init__(self, config: ContenderConfig) -> None:
        import onnxruntime
        import torch
        from sentence_transformers import CrossEncoder

        self._torch = torch
        torch.set_num_threads(config.threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads
        self._model = CrossEncoder(
            str(config.prepared_folder(optimum.FOLDER)),
            backend="onnx",
            device="cpu",
            max_length=config.max_length,
            local_files_only=True,
            model_kwargs={"file_name": "model.onnx", "provider": "CPUExecutionProvider", "session_options": options},
        )

    def predict_proba(self, texts: Sequence[str]) -> Scores:
        """Score the texts in batches sorted by characters, as its `predict` does."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
        return restore_order((rows, self._forward([texts[row] for row in rows])) for rows in batches)

    def _forward(self, texts: list[str]) -> Scores:
        with self._torch.inference_mode():
            logits = self._model(self._model.preprocess(texts))["scores"]
            return np.asarray(self._torch.sigmoid(logits).numpy())


def load(variant: str, config: ContenderConfig) -> CrossEncoderContender:
    """Load the only variant."""
    return CrossEncoderContender(config)


def prepare(variant: str, config: ContenderConfig) -> None:
    """Export the graph with Optimum."""
    optimum.prepare("fp32", config)


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the files that a deployment of this contender ships."""
    return optimum.model_files("fp32", config)
