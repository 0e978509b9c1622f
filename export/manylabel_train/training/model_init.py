"""The model that training starts from: its head fresh, or carried over label by label from another classifier."""

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
from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.models import checkpoint
from manylabel_train.models.pooling import Pooling, encoder_config, with_pooling
from manylabel_train.training.lora import ADAPTER

SAMPLE = 512
"""Texts on which a carried head's biases are fitted."""


def fresh_model(
    name: str,
    labels: Sequence[str],
    priors: NDArray[np.float64],
    changes: Mapping[str, Any] = MappingProxyType({}),
    pooling: Pooling = "own",
) -> PreTrainedModel:
    """An encoder with a new multi-label head, its output started at the labels' priors.

    Args:
        name: A folder or hub name of an encoder.
        labels: The labels in column order.
        priors: Each label's share of positives, shape `(n_labels,)`.
        changes: What its configuration is to say otherwise.
        pooling: What the head reads.
    """
    model, missing = checkpoint.load_model(name, **label_options(labels), **changes)
    _start_near_identity(model, missing)
    model = with_pooling(model, pooling)
    output = output_layer(model)
    with torch.no_grad():
        output.weight.normal_(std=encoder_config(model.config).initializer_range)
        output.bias.copy_(_log_odds(priors))
    return model


def carried_model(
    name: str, labels: Sequence[str], priors: NDArray[np.float64], changes: Mapping[str, Any] = MappingProxyType({})
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """A classifier with the rows of its head carried over by label name.

    Args:
        name: A folder or hub name of a sequence classifier, multi-class or multi-label.
        labels: The labels in column order.
        priors: Each label's share of positives, shape `(n_labels,)`.
        changes: What its configuration is to say otherwise.

    Returns:
        The model, the labels that start fresh, and the checkpoint's labels that were dropped.

    Raises:
        CheckpointError: The checkpoint is no classifier, or shares no label.
    """
    model, missing = checkpoint.load_model(name, **changes)
    old_labels = checkpoint.labels_of(model.config)
    old = output_layer(model)
    if any(key.endswith(_name_of(model, old) + ".weight") for key in missing):
        raise CheckpointError(
            f"{name} has no trained classification head of {len(old_labels)} labels to carry over: "
            "its weights lack one, or hold another number of labels than its config.json. "
            "Start from it with --model instead of --from."
        )
    kept = [label for label in labels if label in old_labels]
    if not kept:
        raise CheckpointError(
            f"{name} shares no label with the data: it has {', '.join(old_labels)}; the data {', '.join(labels)}. "
            "Name its labels in config.json (id2label) as the data does, or start fresh with --model."
        )
    _replace_output_layer(model, _carried_layer(model, old, old_labels, labels, priors), labels)
    fresh = [label for label in labels if label not in old_labels]
    dropped = [label for label in old_labels if label not in labels]
    _warn_of_near_names(fresh, dropped)
    return model.eval(), fresh, dropped


def fit_biases(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    priors: NDArray[np.float64],
    shown: NDArray[np.bool_] | None = None,
) -> None:
    """Shift each output so that its mean probability is the label's prior.

    A softmax head's outputs mean something only beside each other; read through a sigmoid they are off by a constant
    a label, which this takes out. In place.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        texts: Training texts; 512 of them are used, taken evenly from the whole, which may be sorted by label.
        priors: Each label's share of positives, shape `(n_labels,)`.
        shown: By which texts a label's mean is taken, shape `(len(texts), n_labels)`; by all if none.
    """
    step = ceil(len(texts) / SAMPLE)
    sample = texts[::step]
    counted = True if shown is None else shown[::step] | ~shown[::step].any(axis=0)
    probabilities = checkpoint.predict_proba(model, tokenizer, sample).astype(np.float64)
    bounded = np.clip(probabilities, 1e-9, 1 - 1e-9)
    logits = np.log(bounded / (1 - bounded))
    low, high = np.full(len(priors), -50.0), np.full(len(priors), 50.0)
    for _ in range(60):  # bisection: the mean rises with the shift
        middle = (low + high) / 2
        too_high = (1 / (1 + np.exp(-(logits + middle)))).mean(axis=0, where=counted) > priors
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    with torch.no_grad():
        output_layer(model).bias.add_(torch.from_numpy((low + high) / 2).float())


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that gives the logits.

    Raises:
        CheckpointError: There is none with biases outside the encoder.
    """
    encoder = {id(module) for module in model.base_model.modules()}
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and id(module) not in encoder
        and module.out_features == model.config.num_labels
        and module.bias is not None
    ]
    if not found:
        raise CheckpointError(
            f"{type(model).__name__} has no linear output layer with biases for {model.config.num_labels} labels; "
            "it is not supported. Name an encoder, such as BERT, RoBERTa or ModernBERT."
        )
    return found[-1]


def head_parameters(model: PreTrainedModel) -> set[str]:
    """The names of the parameters that learn at the head's rate: pooler, adapters, and all outside the encoder."""
    prefix, fast = model.base_model_prefix + ".", (".pooler.", ADAPTER)
    return {
        name
        for name, _ in model.named_parameters()
        if not name.startswith(prefix) or any(part in name for part in fast)
    }


def label_options(labels: Sequence[str]) -> dict[str, Any]:
    """What a multi-label classifier's configuration says of its labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: column for column, label in enumerate(labels)},
        "problem_type": checkpoint.MULTI_LABEL,
    }


def _start_near_identity(model: PreTrainedModel, missing: set[str]) -> None:
    """Let an untrained pooler start by passing the first token through, rather than by mixing it at random.

    Many encoders come without a trained pooler (e5 and other embedding models, every RoBERTa).
    """
    for name, module in model.named_modules():
        square = isinstance(module, nn.Linear) and module.in_features == module.out_features
        if square and f"{name}.weight" in missing:
            with torch.no_grad():
                nn.init.eye_(module.weight)
                nn.init.zeros_(module.bias)


def _carried_layer(
    model: PreTrainedModel,
    old: nn.Linear,
    old_labels: Sequence[str],
    labels: Sequence[str],
    priors: NDArray[np.float64],
) -> nn.Linear:
    """An output layer whose rows are the old one's where it knew the label, else fresh."""
    new = nn.Linear(old.in_features, len(labels))
    with torch.no_grad():
        new.weight.normal_(std=getattr(encoder_config(model.config), "initializer_range", 0.02))
        new.bias.copy_(_log_odds(priors))
        for column, label in enumerate(labels):
            if label in old_labels:
                new.weight[column] = old.weight[old_labels.index(label)]
                new.bias[column] = old.bias[old_labels.index(label)]
    return new


def _replace_output_layer(model: PreTrainedModel, new: nn.Linear, labels: Sequence[str]) -> None:
    parent, _, attribute = _name_of(model, output_layer(model)).rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    for key, value in label_options(labels).items():
        if key != "num_labels":  # follows from id2label
            setattr(model.config, key, value)
    model.num_labels = len(labels)


def _name_of(model: PreTrainedModel, wanted: nn.Module) -> str:
    names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
    return names[id(wanted)]


def _warn_of_near_names(fresh: Sequence[str], dropped: Sequence[str]) -> None:
    for label in fresh:
        near = get_close_matches(label, dropped, n=1, cutoff=0.7)
        if near:
            warnings.warn(
                f"label {label!r} starts fresh and the checkpoint's {near[0]!r} is dropped: are they the same? "
                "Then name both alike.",
                stacklevel=3,
            )


def _log_odds(priors: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.log(priors / (1 - priors))).float()
