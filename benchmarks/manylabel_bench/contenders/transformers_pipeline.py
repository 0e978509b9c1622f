"""Baseline: `transformers.pipeline` as its users call it: batches of 32 in the order of the file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manylabel_bench.contenders import pytorch
from manylabel_bench.contenders.padded_batches import BATCH_SIZE
from manylabel_bench.contenders.registry import ContenderConfig, Scores


class PipelineContender:
    """The pipeline, which truncates a text at the model's maximum length."""

    batching = f"as given {BATCH_SIZE}"

    def __init__(self, config: ContenderConfig) -> None:
        import torch
        from transformers import pipeline

        import manylabel_train.models.pooling  # noqa: F401 - registers the model type of runs with another pooling

        torch.set_num_threads(config.threads)
        self._max_length = config.max_length
        self._pipeline = pipeline(
            "text-classification",
            model=config.required_checkpoint,
            device="cpu",
            top_k=None,
            function_to_apply="sigmoid",
        )
        labels = self._pipeline.model.config.id2label
        self._columns = {labels[column]: column for column in labels}

    def predict_proba(self, texts: Sequence[str]) -> Scores:
        """Return probabilities in the checkpoint's column order, shape `(len(texts), n_labels)`."""
        scores = np.zeros((len(texts), len(self._columns)), dtype=np.float32)
        outputs = self._pipeline(list(texts), batch_size=BATCH_SIZE, truncation=True, max_length=self._max_length)
        for row, entries in enumerate(outputs):
            for entry in entries:
                scores[row, self._columns[entry["label"]]] = entry["score"]
        return scores


def load(variant: str, config: ContenderConfig) -> PipelineContender:
    """Load the only variant."""
    return PipelineContender(config)


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the files of the checkpoint."""
    return pytorch.model_files(variant, config)
