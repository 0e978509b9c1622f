"""Baseline: well-tuned PyTorch: no gradients, fused attention, and optionally bfloat16 and `torch.compile`."""

from pathlib import Path
from typing import Any

import numpy as np

from manylabel_bench.contenders.padded_batches import PaddedContender, PaddedIds, load_checkpoint_tokenizer
from manylabel_bench.contenders.registry import ContenderConfig, Scores


class PyTorchContender(PaddedContender):
    """The checkpoint in PyTorch, with `scaled_dot_product_attention` where its class supports it."""

    def __init__(self, variant: str, config: ContenderConfig) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        import manylabel_train.models.pooling  # noqa: F401 - registers the model type of runs with another pooling

        super().__init__(*load_checkpoint_tokenizer(config))
        torch.set_num_threads(config.threads)
        self._torch = torch
        dtype = torch.bfloat16 if "bf16" in variant else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(config.required_checkpoint, dtype=dtype)
        self._model: Any = model.eval()
        if "compile" in variant:
            self._model = torch.compile(self._model, dynamic=True)

    def forward(self, input_ids: PaddedIds, attention_mask: PaddedIds) -> Scores:
        """Score one padded batch."""
        with self._torch.inference_mode():
            ids, mask = self._torch.from_numpy(input_ids), self._torch.from_numpy(attention_mask)
            logits = self._model(input_ids=ids, attention_mask=mask).logits
            return np.asarray(self._torch.sigmoid(logits.float()).numpy())


def load(variant: str, config: ContenderConfig) -> PyTorchContender:
    """Load `""`, `"bf16"`, `"compile"` or `"bf16 compile"`."""
    return PyTorchContender(variant, config)


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the checkpoint's model files, without what training left beside them."""
    folder = Path(config.required_checkpoint)
    names = ("config.json", "tokenizer.json", "tokenizer_config.json")
    return [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin"), *(folder / name for name in names)]
