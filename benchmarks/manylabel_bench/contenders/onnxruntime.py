"""onnxruntime and tokenizers alone, as the README's snippet: the bundle's `model.onnx`, padded batches."""

from pathlib import Path

import numpy as np

from manylabel_bench.contenders import Scores, Setting
from manylabel_bench.contenders.padded_batches import Array, Padded, plain_tokenizer


class Plain(Padded):
    """A session with onnxruntime's own settings and the threads that all have."""

    def __init__(self, setting: Setting) -> None:
        import onnxruntime

        super().__init__(*plain_tokenizer(setting))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        path = Path(setting.bundle) / "model.onnx"
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]

    def forward(self, input_ids: Array, attention_mask: Array) -> Scores:
        """As `Padded.forward`."""
        types = np.zeros_like(input_ids)
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": types}
        (found,) = self._session.run(["probabilities"], {name: feeds[name] for name in self._names})
        return np.asarray(found)


def load(variant: str, setting: Setting) -> Plain:
    """There is one way only."""
    return Plain(setting)


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The files that are read."""
    return [Path(setting.bundle) / name for name in ("model.onnx", "tokenizer.json")]
