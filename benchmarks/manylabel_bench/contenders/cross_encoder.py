"""sentence-transformers' `CrossEncoder` with its ONNX backend, which takes any sequence classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manylabel_bench.contenders import Scores, Setting, optimum
from manylabel_bench.contenders.padded_batches import BATCH, restored


class Cross:
    """Asked by its own steps: its `predict` takes pairs of texts and no single ones (seen with 5.7)."""

    batching = f"sorted {BATCH}"

    def __init__(self, setting: Setting) -> None:
        import onnxruntime
        import torch
        from sentence_transformers import CrossEncoder

        self._torch = torch
        torch.set_num_threads(setting.threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        self._model = CrossEncoder(
            str(setting.folder(optimum.FOLDER)),
            backend="onnx",
            device="cpu",
            max_length=setting.max_length,
            local_files_only=True,
            model_kwargs={"file_name": "model.onnx", "provider": "CPUExecutionProvider", "session_options": options},
        )

    def scores(self, texts: Sequence[str]) -> Scores:
        """As its `predict` does: sorted by characters, in batches."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        return restored((rows, self._forward([texts[row] for row in rows])) for rows in batches)

    def _forward(self, texts: list[str]) -> Scores:
        with self._torch.inference_mode():
            found = self._model(self._model.preprocess(texts))["scores"]
            return np.asarray(self._torch.sigmoid(found).numpy())


def load(variant: str, setting: Setting) -> Cross:
    """There is one way only."""
    return Cross(setting)


def prepare(variant: str, setting: Setting) -> None:
    """The graph that Optimum exports."""
    optimum.prepare("fp32", setting)


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The files that someone ships who answers so."""
    return optimum.artefacts("fp32", setting)
