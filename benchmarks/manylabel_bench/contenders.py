"""Who is compared: each takes texts and gives probabilities, on the same number of threads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manylabel import Classifier

BATCH = 32
"""What users of PyTorch take; larger ones were no faster on two cores."""


class Contender(Protocol):
    """Something that scores texts."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities in the bundle's column order, shape `(len(texts), n_labels)`."""
        ...


class Manylabel:
    """A bundle's variant in this runtime."""

    def __init__(self, bundle: Path, precision: Any, threads: int) -> None:
        self._classifier = Classifier.load(bundle, device="cpu", precision=precision, threads=threads)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `Classifier.predict_proba`."""
        return self._classifier.predict_proba(texts)


class Pipeline:
    """`transformers.pipeline` as its users write it: batches of 32 in the file's order."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        import torch
        from transformers import pipeline

        import manylabel_export.pooling  # noqa: F401 - makes known the model type of runs with another pooling

        torch.set_num_threads(threads)
        self._pipeline = pipeline(
            "text-classification", model=str(checkpoint), device="cpu", top_k=None, function_to_apply="sigmoid"
        )
        labels = self._pipeline.model.config.id2label
        self._columns = {labels[column]: column for column in labels}

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts beyond the model's length are truncated: the pipeline knows no windows."""
        result = np.zeros((len(texts), len(self._columns)), dtype=np.float32)
        for row, found in enumerate(self._pipeline(list(texts), batch_size=BATCH, truncation=True)):
            for entry in found:
                result[row, self._columns[entry["label"]]] = entry["score"]
        return result


class PyTorch:
    """PyTorch by someone who takes care: sorted by length, no gradients, the model's fused attention."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import manylabel_export.pooling  # noqa: F401 - as above

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self._model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts beyond the model's length are truncated."""
        ids = self._tokenizer(list(texts), truncation=True)["input_ids"]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        result = np.zeros((len(texts), self._model.config.num_labels), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = self._tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            with self._torch.inference_mode():
                result[rows] = self._torch.sigmoid(self._model(**batch).logits).numpy()
        return result


def load(name: str, bundle: Path, checkpoint: Path | None, threads: int) -> Contender:
    """A contender by name: `manylabel int8`, `manylabel fp32`, `pytorch` or `pipeline`."""
    if name.startswith("manylabel "):
        return Manylabel(bundle, name.removeprefix("manylabel "), threads)
    if checkpoint is None:
        raise ValueError(f"{name} needs a checkpoint")
    return PyTorch(checkpoint, threads) if name == "pytorch" else Pipeline(checkpoint, threads)
