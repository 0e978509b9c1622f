"""`transformers.pipeline` as its users write it: batches of 32 in the file's order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manylabel_bench.contenders import Scores, Setting, pytorch
from manylabel_bench.contenders.padded_batches import BATCH


class Pipeline:
    """Texts beyond the model's length are truncated: the pipeline knows no windows."""

    batching = f"as given {BATCH}"

    def __init__(self, setting: Setting) -> None:
        import torch
        from transformers import pipeline

        import manylabel_train.models.pooling  # noqa: F401 - makes known the model type of runs with another pooling

        torch.set_num_threads(setting.threads)
        self._limit = setting.max_length
        self._pipeline = pipeline(
            "text-classification", model=setting.model, device="cpu", top_k=None, function_to_apply="sigmoid"
        )
        labels = self._pipeline.model.config.id2label
        self._columns = {labels[column]: column for column in labels}

    def scores(self, texts: Sequence[str]) -> Scores:
        """Probabilities in the checkpoint's column order, shape `(len(texts), n_labels)`."""
        result = np.zeros((len(texts), len(self._columns)), dtype=np.float32)
        answers = self._pipeline(list(texts), batch_size=BATCH, truncation=True, max_length=self._limit)
        for row, found in enumerate(answers):
            for entry in found:
                result[row, self._columns[entry["label"]]] = entry["score"]
        return result


def load(variant: str, setting: Setting) -> Pipeline:
    """There is one way only."""
    return Pipeline(setting)


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The checkpoint."""
    return pytorch.artefacts(variant, setting)
