"""Pooling: a classifier whose head reads the first token or the mean of all, as a model type of its own.

Each of transformers' classes has a fixed pooling. Weights that were trained with another one would load into them
without an error and predict wrongly. So such a checkpoint has a model type that plain transformers rejects by name, and
knows only after an import of this module (docs/decisions/0010).
"""

from copy import deepcopy
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from manylabel.errors import missing_extra

if find_spec("torch") is None:
    raise missing_extra("export", "torch")

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

Pooling = Literal["own", "first", "mean"]
NATIVE = "classifier_pooling"
"""The configuration field of architectures that support both kinds of pooling themselves (ModernBERT)."""
NATIVE_NAMES = {"first": "cls", "mean": "mean"}
DROPOUTS = ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob", "hidden_dropout")


class PooledConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """The configuration of a `PooledClassifier`.

    Args:
        encoder: The encoder's configuration, or its fields.
        pooling: `"first"` or `"mean"`.
        dropout: Dropout rate before the linear layer.
        options: Labels and the other fields of every configuration.
    """

    model_type = "manylabel-pooled"
    has_no_defaults_at_init = True
    sub_configs: ClassVar = {"encoder": AutoConfig}

    def __init__(self, encoder: Any = None, pooling: str = "mean", dropout: float = 0.0, **options: Any) -> None:
        self.encoder = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
        self.pooling = pooling
        self.dropout = dropout
        super().__init__(**options)


class PooledClassifier(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """An encoder, pooling (first token or mean), and a linear layer."""

    config_class = PooledConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder = AutoModel.from_config(config.encoder)
        _remove_pooler(self.encoder)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.encoder.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Compute logits, shape `(batch, num_labels)`, and binary cross-entropy if `labels` of that shape are given."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids=input_ids, attention_mask=mask, **types)[0]
        if self.config.pooling == "first":
            pooled = states[:, 0]
        else:
            pooled = (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise the linear layer; the encoder initialises itself."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=getattr(self.config.encoder, "initializer_range", 0.02))
            nn.init.zeros_(module.bias)


AutoConfig.register(PooledConfig.model_type, PooledConfig)
AutoModelForSequenceClassification.register(PooledConfig, PooledClassifier)


def set_pooling(model: PreTrainedModel, pooling: Pooling) -> PreTrainedModel:
    """Return a classifier with another pooling and a new linear layer on the same encoder.

    Architectures that support the choice themselves keep their class and their head.

    Args:
        model: A sequence classifier.
        pooling: `"own"` returns the model unchanged.
    """
    if pooling == "own":
        return model
    if hasattr(model.config, NATIVE):
        setattr(model.config, NATIVE, NATIVE_NAMES[pooling])
        return model
    encoder, labels = deepcopy(encoder_config(model.config)), model.config
    for name in (
        "id2label",
        "label2id",
        "problem_type",
        "architectures",
    ):  # fields of the classifier, not of the encoder
        setattr(encoder, name, getattr(PretrainedConfig(), name))
    dropout = next((rate for name in DROPOUTS if (rate := getattr(encoder, name, None)) is not None), 0.0)
    config = PooledConfig(
        encoder,
        pooling,
        dropout,
        id2label=labels.id2label,
        label2id=labels.label2id,
        problem_type=labels.problem_type,
    )
    pooled = PooledClassifier(config)
    pooled.encoder = model.base_model
    pooled.encoder.config = config.encoder
    _remove_pooler(pooled.encoder)
    return pooled.eval()


def encoder_config(config: Any) -> Any:
    """Return the configuration with sizes, vocabulary and architecture: the encoder's for a `PooledConfig`."""
    return config.encoder if isinstance(config, PooledConfig) else config


def portable_config(config: Any) -> Any:
    """Return the configuration that a bundle contains: its graphs include the pooling, so the architecture's own."""
    if not isinstance(config, PooledConfig):
        return config
    plain = deepcopy(config.encoder)
    for name in ("id2label", "label2id", "problem_type"):
        setattr(plain, name, getattr(config, name))
    return plain


def _remove_pooler(encoder: PreTrainedModel) -> None:
    """Remove the pooler, which would be trained, saved and traced although nothing reads it."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
