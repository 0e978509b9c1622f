"""The model that training starts from: a new head, or one carried over label by label from another classifier."""

import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import ceil
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from manylabel.errors import CheckpointError
from manylabel.inference.thresholding import logit, sigmoid
from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.models import checkpoint
from manylabel_train.models.classification_head import label_options, module_name, output_layer, replace_output_layer
from manylabel_train.models.pooling import Pooling, encoder_config, set_pooling
from manylabel_train.training.lora import ADAPTER

SAMPLE = 512
"""Number of texts on which a carried-over head's biases are fitted."""
CLIP = 1e-9
"""Probabilities are clipped to this distance from 0 and 1, so that their logits are finite."""


def create_model(
    name: str,
    labels: Sequence[str],
    priors: NDArray[np.float64],
    changes: Mapping[str, Any] = MappingProxyType({}),
    pooling: Pooling = "own",
) -> PreTrainedModel:
    """Create an encoder with a new multi-label head, whose output starts at the labels' priors.

    Args:
        name: A folder or Hub name of an encoder.
        labels: The labels in column order.
        priors: Each label's share of positives, shape `(n_labels,)`.
        changes: Fields of its configuration to override.
        pooling: What the head reads.
    """
    model, missing = checkpoint.load_model(name, **label_options(labels), **changes)
    _start_near_identity(model, missing)
    model = set_pooling(model, pooling)
    output = output_layer(model)
    with torch.no_grad():
        output.weight.normal_(std=encoder_config(model.config).initializer_range)
        output.bias.copy_(_to_biases(priors))
    return model


def carry_over_model(
    name: str, labels: Sequence[str], priors: NDArray[np.float64], changes: Mapping[str, Any] = MappingProxyType({})
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """Load a classifier, and carry the rows of its head over by label name.

    Args:
        name: A folder or Hub name of a sequence classifier, multi-class or multi-label.
        labels: The labels in column order.
        priors: Each label's share of positives, shape `(n_labels,)`.
        changes: Fields of its configuration to override.

    Returns:
        The model, the labels that start new, and the checkpoint's labels that are dropped.

    Raises:
        CheckpointError: The checkpoint is not a classifier, or shares no label.
    """
    model, missing = checkpoint.load_model(name, **changes)
    old_labels = checkpoint.read_labels(model.config)
    old = output_layer(model)
    if any(key.endswith(module_name(model, old) + ".weight") for key in missing):
        raise CheckpointError(
            f"{name} has no trained classification head of {len(old_labels)} labels to carry over: its weights are "
            "missing, or have another number of labels than its config.json. "
            "Start from it with --model instead of --from."
        )
    kept = [label for label in labels if label in old_labels]
    if not kept:
        raise CheckpointError(
            f"{name} shares no label with the data: it has {', '.join(old_labels)}; the data {', '.join(labels)}. "
            "Name its labels in config.json (id2label) as the data does, or start a new head with --model."
        )
    replace_output_layer(model, _carry_over_layer(model, old, old_labels, labels, priors), labels)
    new = [label for label in labels if label not in old_labels]
    dropped = [label for label in old_labels if label not in labels]
    _warn_about_similar_names(new, dropped)
    return model.eval(), new, dropped


def fit_biases(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    priors: NDArray[np.float64],
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Shift each output so that its mean probability is the label's prior, in place.

    The outputs of a softmax head are only meaningful relative to each other; through a sigmoid they are off by a
    constant per label, which this removes.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        texts: Training texts; at most 512 are used, evenly spaced, because the texts may be sorted by label.
        priors: Each label's share of positives, shape `(n_labels,)`.
        mask: The entries over which a label's mean is taken, shape `(len(texts), n_labels)`; all if None.
    """
    step = ceil(len(texts) / SAMPLE)
    sample = texts[::step]
    counted = True if mask is None else mask[::step] | ~mask[::step].any(axis=0)
    probabilities = checkpoint.predict_proba(model, tokenizer, sample)
    logits = logit(probabilities, clip=CLIP)
    low, high = np.full(len(priors), -50.0), np.full(len(priors), 50.0)
    for _ in range(60):  # bisection: the mean rises with the shift
        middle = (low + high) / 2
        too_high = sigmoid(logits + middle).mean(axis=0, where=counted) > priors
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    with torch.no_grad():
        output_layer(model).bias.add_(torch.from_numpy((low + high) / 2).float())


def head_parameters(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters with the head's learning rate: pooler, adapters, all outside the encoder."""
    prefix, parts = model.base_model_prefix + ".", (".pooler.", ADAPTER)
    return {
        name
        for name, _ in model.named_parameters()
        if not name.startswith(prefix) or any(part in name for part in parts)
    }


def _start_near_identity(model: PreTrainedModel, missing: set[str]) -> None:
    """Initialise an untrained pooler to pass the first token through, instead of mixing it at random.

    Many encoders have no trained pooler (e5 and other embedding models, every RoBERTa).
    """
    for name, module in model.named_modules():
        square = isinstance(module, nn.Linear) and module.in_features == module.out_features
        if square and f"{name}.weight" in missing:
            with torch.no_grad():
                nn.init.eye_(module.weight)
                nn.init.zeros_(module.bias)


def _carry_over_layer(
    model: PreTrainedModel,
    old: nn.Linear,
    old_labels: Sequence[str],
    labels: Sequence[str],
    priors: NDArray[np.float64],
) -> nn.Linear:
    """Return an output layer with the old layer's rows for labels that it has, and new rows for the others."""
    layer = nn.Linear(old.in_features, len(labels))
    with torch.no_grad():
        layer.weight.normal_(std=getattr(encoder_config(model.config), "initializer_range", 0.02))
        layer.bias.copy_(_to_biases(priors))
        for column, label in enumerate(labels):
            if label in old_labels:
                layer.weight[column] = old.weight[old_labels.index(label)]
                layer.bias[column] = old.bias[old_labels.index(label)]
    return layer


def _warn_about_similar_names(new: Sequence[str], dropped: Sequence[str]) -> None:
    for label in new:
        similar = get_close_matches(label, dropped, n=1, cutoff=0.7)
        if similar:
            warnings.warn(
                f"label {label!r} starts new and the checkpoint's label {similar[0]!r} is dropped. "
                "If they are the same, give both the same name.",
                stacklevel=3,
            )


def _to_biases(priors: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(logit(priors)).float()
