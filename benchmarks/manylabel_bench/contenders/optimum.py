"""Optimum's `ORTModelForSequenceClassification`, fp32 and quantised by its own `ORTQuantizer`."""

from pathlib import Path

import numpy as np

from manylabel_bench.contenders import Scores, Setting
from manylabel_bench.contenders.padded_batches import Array, Padded, sigmoid, transformers_tokenizer
from manylabel_bench.machine import has_flag

FOLDER = "optimum"
QUANTISED = "model_quantized.onnx"


class Optimum(Padded):
    """Takes and gives PyTorch tensors, as its users call it."""

    def __init__(self, variant: str, setting: Setting) -> None:
        import onnxruntime
        import torch
        from optimum.onnxruntime import ORTModelForSequenceClassification

        super().__init__(*transformers_tokenizer(setting))
        torch.set_num_threads(setting.threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        self._torch = torch
        self._model = ORTModelForSequenceClassification.from_pretrained(
            setting.folder(FOLDER),
            file_name=QUANTISED if variant == "int8" else "model.onnx",
            session_options=options,
        )

    def forward(self, input_ids: Array, attention_mask: Array) -> Scores:
        """As `Padded.forward`."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if "token_type_ids" in self._model.input_names:
            inputs["token_type_ids"] = np.zeros_like(input_ids)
        with self._torch.inference_mode():
            found = self._model(**{name: self._torch.from_numpy(value) for name, value in inputs.items()})
        return sigmoid(found.logits.numpy())


def load(variant: str, setting: Setting) -> Optimum:
    """`"fp32"` or `"int8"`."""
    return Optimum(variant, setting)


def prepare(variant: str, setting: Setting) -> None:
    """Export and quantise, with the settings that Optimum has for this machine."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig
    from transformers import AutoTokenizer

    folder = setting.folder(FOLDER)
    if not (folder / "model.onnx").exists():
        ORTModelForSequenceClassification.from_pretrained(setting.model, export=True).save_pretrained(folder)
        AutoTokenizer.from_pretrained(setting.model).save_pretrained(folder)
    if variant == "int8" and not (folder / QUANTISED).exists():
        settings = AutoQuantizationConfig.avx512_vnni if has_flag("avx512_vnni") else AutoQuantizationConfig.avx2
        quantizer = ORTQuantizer.from_pretrained(folder, file_name="model.onnx")
        quantizer.quantize(save_dir=folder, quantization_config=settings(is_static=False, per_channel=False))


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The files that someone ships who answers so."""
    folder = setting.folder(FOLDER)
    return [folder / (QUANTISED if variant == "int8" else "model.onnx"), folder / "tokenizer.json"]
