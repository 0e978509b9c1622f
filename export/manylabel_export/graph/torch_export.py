"""PyTorch to ONNX: two tracing engines behind one function.

`optimum` uses optimum-onnx, which knows the inputs of each architecture and patches code that cannot be traced.
`torch` calls `torch.onnx.export` and therefore also works with transformers 5, which optimum-onnx does not support.
Both trace the same module with eager attention, the only form that the attention fusion recognises.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from accelerate import init_empty_weights
from numpy.typing import NDArray
from transformers import PreTrainedModel

from manylabel.errors import ExportError
from manylabel_export.graph.equivalence_check import GraphPredictor
from manylabel_export.graph.ir.external_data import WeightStore, read_model
from manylabel_train.models.pooling import encoder_config

OPSET = 17  # the first with LayerNormalization as a standard operator; both engines support it
ENGINES = ("auto", "optimum", "torch")

# Warnings of the tracer that do not apply: what it freezes is the same for every input, which the tests check at other
# lengths and batch sizes than the traced ones.
HARMLESS_WARNINGS = (
    (DeprecationWarning, r"You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, r"The feature will be removed"),
    (Warning, r"Converting a tensor to a Python"),
    (Warning, r"torch.tensor results are registered as constants"),
    (Warning, r"Iterating over a tensor"),
    (UserWarning, r"Exporting aten::index operator of advanced indexing"),
    (UserWarning, r"To copy construct from a tensor"),
)


def trace(model: PreTrainedModel, *, engine: str = "auto", store: WeightStore | None = None) -> onnx.ModelProto:
    """Trace a sequence classifier that returns logits.

    Args:
        model: A loaded `...ForSequenceClassification`. It is not changed, but ends in eval mode.
        engine: `"optimum"`, `"torch"`, or `"auto"`: optimum if it is installed.
        store: Where large weights go; None to keep them in the graph.

    Returns:
        A float32 graph of standard operators. Inputs, int64 `(batch, sequence)`: `input_ids`,
        `attention_mask`, and `token_type_ids` if the model distinguishes token types. Output: `logits`
        float32 `(batch, num_labels)`. `batch` and `sequence` are dynamic.

    Raises:
        ExportError: The engine is not installed, or the architecture cannot be traced.
    """
    resolved = resolve_engine(engine)
    model.eval()
    with _silenced(), torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        module = eager_copy(model)
        path = Path(folder) / "model.onnx"
        try:
            (_export_with_optimum if resolved == "optimum" else _export_with_torch)(module, path)
        except Exception as exc:  # a tracer raises whatever the model's own code raises
            raise _tracing_error(model, resolved, exc) from exc
        proto = store.move_weights(read_model(path)) if store else onnx.load(str(path))
    return _name_dimensions(proto)


def resolve_engine(engine: str) -> str:
    """Return the engine that `trace` will use, `"optimum"` or `"torch"`.

    >>> resolve_engine("torch")
    'torch'

    Raises:
        ExportError: The engine is unknown or not installed.
    """
    if engine not in ENGINES:
        raise ExportError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}.")
    installed = _optimum_is_installed()
    if engine == "optimum" and not installed:
        raise ExportError(
            "The engine 'optimum' was requested, but optimum-onnx is not installed. "
            'pip install "optimum-onnx" "transformers<4.58", or use --engine torch.'
        )
    return "torch" if engine == "torch" or not installed else "optimum"


def eager_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a new float32 module on the CPU with the same weights and eager attention, in eval mode.

    The module is created again because transformers 4 chooses the attention class in the constructor, and
    `set_attn_implementation` afterwards only warns. It is created without weights and then given the model's own, so
    a float32 model on the CPU is not copied.

    Raises:
        ExportError: The model has weights that its class and configuration do not define.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "reference_compile"):  # ModernBERT compiles its MLP, which cannot be traced
        config.reference_compile = False
    with init_empty_weights():
        fresh = type(model)._from_config(config, attn_implementation="eager")
    try:
        fresh.load_state_dict({name: _to_float32(value) for name, value in model.state_dict().items()}, assign=True)
    except RuntimeError as exc:
        raise ExportError(
            f"The model does not match its own class {type(model).__name__}: {_shorten_message(exc)} "
            "Save it with save_pretrained, load it with from_pretrained, and export the result."
        ) from exc
    return fresh.eval()


def _to_float32(value: torch.Tensor) -> torch.Tensor:
    """Move a tensor to the CPU, and convert floating-point numbers to float32."""
    return value.cpu().float() if value.is_floating_point() else value.cpu()


def pytorch_predictor(model: PreTrainedModel) -> GraphPredictor:
    """Return a function that runs a model in fp32."""
    module = eager_copy(model)

    def predict(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits = module(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        probabilities: NDArray[np.float32] = torch.sigmoid(logits).numpy()
        return probabilities

    return predict


def takes_token_types(model: PreTrainedModel) -> bool:
    """Return whether the model distinguishes token types; RoBERTa accepts them, but has only one."""
    accepted = "token_type_ids" in inspect.signature(model.forward).parameters
    return accepted and (getattr(encoder_config(model.config), "type_vocab_size", 0) or 0) > 1


class _LogitsOnly(torch.nn.Module):
    """A wrapper for the tracer: positional tensors in, the logits out."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape `(batch, num_labels)`."""
        logits: torch.Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


def _example(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return two texts of different length: the mask is not all ones, and no dimension is 1."""
    vocabulary = encoder_config(model.config).vocab_size
    ids = (torch.arange(14).reshape(2, 7) % max(vocabulary - 3, 1)) + 2
    ids = ids.clamp(max=vocabulary - 1)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    example = {"input_ids": ids, "attention_mask": mask}
    if takes_token_types(model):
        example["token_type_ids"] = torch.zeros_like(ids)
    return example


def _export_with_torch(model: PreTrainedModel, path: Path) -> None:
    example = _example(model)
    names = list(example)
    # The tracer restores the previous mode of the module that it is given. A new wrapper is in train mode, so without
    # eval() it would put the model back into train mode, with dropout.
    wrapper = _LogitsOnly(model, names).eval()
    axes: dict[str, dict[int, str]] = {name: {0: "batch", 1: "sequence"} for name in names}
    with torch.no_grad():
        torch.onnx.export(
            wrapper,
            tuple(example.values()),
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=axes | {"logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def _export_with_optimum(model: PreTrainedModel, path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    config = encoder_config(model.config)
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=config.model_type, task="text-classification", library_name="transformers"
    )
    export(model, constructor(config), path, opset=OPSET)


def _name_dimensions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give the dimensions of inputs and output the same names for both engines."""
    for value in proto.graph.input:
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "sequence"), strict=True):
            dimension.dim_param = name
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto


def _tracing_error(model: PreTrainedModel, engine: str, exc: Exception) -> ExportError:
    other = "torch" if engine == "optimum" else "optimum"
    return ExportError(
        f"The engine {engine!r} cannot trace {type(model).__name__} ({encoder_config(model.config).model_type}): "
        f"{_shorten_message(exc)} Try --engine {other}, or use an architecture listed in docs/exporting.md."
    )


def _optimum_is_installed() -> bool:
    try:
        return importlib.util.find_spec("optimum.exporters.onnx") is not None
    except ModuleNotFoundError:
        return False


def _shorten_message(exc: Exception) -> str:
    text = " ".join(str(exc).split()) or type(exc).__name__
    return text[:200] + " ..." if len(text) > 200 else text.rstrip(".") + "."


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silence the tracer's harmless warnings, and no others."""
    loggers = [logging.getLogger(name) for name in ("optimum", "transformers", "huggingface_hub")]
    levels: list[Any] = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category, message in HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=category)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
