"""PyTorch by someone who takes care: no gradients, fused attention, bfloat16 and `torch.compile` where asked for."""

from pathlib import Path
from typing import Any

import numpy as np

from manylabel_bench.contenders import Scores, Setting
from manylabel_bench.contenders.padded_batches import Array, Padded, transformers_tokenizer


class PyTorch(Padded):
    """The checkpoint in PyTorch, with scaled_dot_product_attention where its class has it."""

    def __init__(self, variant: str, setting: Setting) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        import manylabel_train.models.pooling  # noqa: F401 - makes known the model type of runs with another pooling

        super().__init__(*transformers_tokenizer(setting))
        torch.set_num_threads(setting.threads)
        self._torch = torch
        precision = torch.bfloat16 if "bf16" in variant else torch.float32
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(setting.model, dtype=precision).eval()
        if "compile" in variant:
            self._model = torch.compile(self._model, dynamic=True)

    def forward(self, input_ids: Array, attention_mask: Array) -> Scores:
        """As `Padded.forward`."""
        with self._torch.inference_mode():
            ids, mask = self._torch.from_numpy(input_ids), self._torch.from_numpy(attention_mask)
            logits = self._model(input_ids=ids, attention_mask=mask).logits
            return np.asarray(self._torch.sigmoid(logits.float()).numpy())


def load(variant: str, setting: Setting) -> PyTorch:
    """`""`, `"bf16"`, `"compile"` or both."""
    return PyTorch(variant, setting)


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The checkpoint's own files, less what training left beside them."""
    folder, names = Path(setting.model), ("config.json", "tokenizer.json", "tokenizer_config.json")
    return [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin"), *(folder / name for name in names)]
