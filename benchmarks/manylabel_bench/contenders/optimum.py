"""Baseline: Optimum's `ORTModelForSequenceClassification`, in fp32 and quantised by its own `ORTQuantizer`."""

from pathlib import Path

import numpy as np

from manylabel.inference.thresholding import sigmoid
from manylabel_bench.contenders.padded_batches import PaddedContender, PaddedIds, load_checkpoint_tokenizer
from manylabel_bench.contenders.registry import ContenderConfig, Scores
from manylabel_bench.hardware import has_cpu_flag

FOLDER = "optimum"
QUANTISED = "model_quantized.onnx"


class OptimumContender(PaddedContender):
    """Takes and returns PyTorch tensors, as its users call it."""

    def __init__(self, variant: str, config: ContenderConfig) -> None:
        import onnxruntime
        import torch
        from optimum.onnxruntime import ORTModelForSequenceClassification

        super().__init__(*load_checkpoint_tokenizer(config))
        torch.set_num_threads(config.threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads
        self._torch = torch
        self._model = ORTModelForSequenceClassification.from_pretrained(
            config.prepared_folder(FOLDER),
            file_name=QUANTISED if variant == "int8" else "model.onnx",
            session_options=options,
        )

    def forward(self, input_ids: PaddedIds, attention_mask: PaddedIds) -> Scores:
        """Score one padded batch."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if "token_type_ids" in self._model.input_names:
            inputs["token_type_ids"] = np.zeros_like(input_ids)
        with self._torch.inference_mode():
            output = self._model(**{name: self._torch.from_numpy(value) for name, value in inputs.items()})
        return sigmoid(output.logits.numpy()).astype(np.float32)


def load(variant: str, config: ContenderConfig) -> OptimumContender:
    """Load `"fp32"` or `"int8"`."""
    return OptimumContender(variant, config)


def prepare(variant: str, config: ContenderConfig) -> None:
    """Export and quantise, with the settings that Optimum recommends for this machine."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig
    from transformers import AutoTokenizer

    folder, checkpoint = config.prepared_folder(FOLDER), config.required_checkpoint
    if not (folder / "model.onnx").exists():
        ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True).save_pretrained(folder)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    if variant == "int8" and not (folder / QUANTISED).exists():
        preset = AutoQuantizationConfig.avx512_vnni if has_cpu_flag("avx512_vnni") else AutoQuantizationConfig.avx2
        quantizer = ORTQuantizer.from_pretrained(folder, file_name="model.onnx")
        quantizer.quantize(save_dir=folder, quantization_config=preset(is_static=False, per_channel=False))


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the files that a deployment of this contender ships."""
    folder = config.prepared_folder(FOLDER)
    return [folder / (QUANTISED if variant == "int8" else "model.onnx"), folder / "tokenizer.json"]
