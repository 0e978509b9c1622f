"""The classification head of a sequence classifier: its output layer, its labels, and replacing both."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from manylabel.errors import missing_extra

if find_spec("torch") is None:
    raise missing_extra("export", "torch")

from torch import nn
from transformers import PreTrainedModel

from manylabel.errors import CheckpointError
from manylabel_train.models.checkpoint import MULTI_LABEL


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """Return the linear layer that computes the logits.

    Raises:
        CheckpointError: The model has no such layer with biases outside its encoder.
    """
    encoder = {id(module) for module in model.base_model.modules()}
    candidates = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and id(module) not in encoder
        and module.out_features == model.config.num_labels
        and module.bias is not None
    ]
    if not candidates:
        raise CheckpointError(
            f"{type(model).__name__} has no linear output layer with biases for {model.config.num_labels} labels; "
            "it is not supported. Use an encoder, such as BERT, RoBERTa or ModernBERT."
        )
    return candidates[-1]


def replace_output_layer(model: PreTrainedModel, layer: nn.Linear, labels: Sequence[str]) -> None:
    """Replace the output layer of a model and the labels of its configuration, in place.

    Args:
        model: A sequence classifier.
        layer: Has an output for each of `labels`.
        labels: The new labels in column order.
    """
    parent, _, attribute = module_name(model, output_layer(model)).rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)
    for key, value in label_options(labels).items():
        if key != "num_labels":  # derived from id2label
            setattr(model.config, key, value)
    model.num_labels = len(labels)


def label_options(labels: Sequence[str]) -> dict[str, Any]:
    """Return the configuration fields of a multi-label classifier with the given labels.

    Example:
        >>> label_options(["price", "quality"])["label2id"]
        {'price': 0, 'quality': 1}
    """
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: column for column, label in enumerate(labels)},
        "problem_type": MULTI_LABEL,
    }


def module_name(model: PreTrainedModel, wanted: nn.Module) -> str:
    """Return a submodule's dotted name."""
    names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
    return names[id(wanted)]
