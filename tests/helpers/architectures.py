"""Tiny classifiers with random weights, one of every supported architecture."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

VOCABULARY = 64
LONGEST = 40  # tokens that all of them accept
WINDOW = 8  # ModernBERT's local attention: 4 tokens to each side

COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "problem_type": "multi_label_classification"}
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
}
# As in DeBERTa-v3: disentangled attention in both directions, no absolute positions, no token types.
DISENTANGLED: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "max_relative_positions": -1,
    "type_vocab_size": 0,
}

CONFIGURATIONS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "bert": (BertConfig, SIZES),
    "distilbert": (
        DistilBertConfig,
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 48},
    ),
    "roberta": (RobertaConfig, SIZES | {"type_vocab_size": 1}),
    "xlm-roberta": (XLMRobertaConfig, SIZES | {"type_vocab_size": 1}),
    "albert": (AlbertConfig, SIZES | {"embedding_size": 16}),
    "electra": (ElectraConfig, SIZES | {"embedding_size": 16}),
    "mpnet": (MPNetConfig, SIZES),
    "deberta-v2": (DebertaV2Config, SIZES | DISENTANGLED),
    "modernbert": (
        ModernBertConfig,
        SIZES
        | {"num_hidden_layers": 4, "local_attention": WINDOW, "pad_token_id": 0, "cls_token_id": 1}
        | {"bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2},
    ),
}


def make_classifier(architecture: str, *, labels: int = 4, **changes: Any) -> PreTrainedModel:
    """Return a classifier in eval mode, with the same weights in every call.

    Args:
        architecture: A key of `CONFIGURATIONS`.
        labels: Number of labels.
        **changes: Fields of the configuration that differ from the usual ones.
    """
    kind, fields = CONFIGURATIONS[architecture]
    config = kind(**(COMMON | fields | {"num_labels": labels} | changes))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Importing DeBERTa and ModernBERT calls functions that this PyTorch has deprecated.
        warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
        torch.manual_seed(7)
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
        _draw_large_weights(model)
    return model.eval()


def _draw_large_weights(model: PreTrainedModel) -> None:
    """Draw weights so large that attention has peaks and probabilities spread out.

    With the initialisation of a real model every tiny classifier returns about 0.5 for every text, and so would a
    wrong graph.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 and parameter.mean() == 1 else 0.3 * noise)
