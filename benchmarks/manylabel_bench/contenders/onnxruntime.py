"""Baseline: onnxruntime and tokenizers alone, as in the README's snippet: the bundle's `model.onnx`, padded batches."""

from pathlib import Path

import numpy as np

from manylabel_bench.contenders.padded_batches import PaddedContender, PaddedIds, load_bundle_tokenizer
from manylabel_bench.contenders.registry import ContenderConfig, Scores


class OnnxRuntimeContender(PaddedContender):
    """A session with onnxruntime's default settings and the configured threads."""

    def __init__(self, config: ContenderConfig) -> None:
        import onnxruntime

        super().__init__(*load_bundle_tokenizer(config))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads
        path = Path(config.bundle) / "model.onnx"
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]

    def forward(self, input_ids: PaddedIds, attention_mask: PaddedIds) -> Scores:
        """Score one padded batch."""
        types = np.zeros_like(input_ids)
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": types}
        (probabilities,) = self._session.run(["probabilities"], {name: feeds[name] for name in self._inputs})
        return np.asarray(probabilities)


def load(variant: str, config: ContenderConfig) -> OnnxRuntimeContender:
    """Load the only variant."""
    return OnnxRuntimeContender(config)


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the files that the session and the tokenizer read."""
    return [Path(config.bundle) / name for name in ("model.onnx", "tokenizer.json")]
