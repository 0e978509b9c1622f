"""Long texts in training: all windows of a text go through the model, and each label takes their greatest logit.

So a text is learned as the runtime answers it: the greatest logit is that of the greatest probability.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from manylabel.inference.tokenizer import Tokenizer

MOST_WINDOWS = 8
"""Windows of a text that are trained on at most, its first ones: 3,856 tokens where the model reads 512 at once. Texts
are judged, and answered, by up to 32."""

ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
"""What configurations call it."""


def lean_attention(config: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """What to change in a configuration where a training text is longer than `max_length`: no dropout in attention.

    With it PyTorch has to hold every token's weight for every other: eight windows of 512 tokens of MiniLM-L6, forward
    and backward in bf16 on one core of Zen 4, took 5.0 s with and 2.0 s without. Encoders made for long texts, such as
    ModernBERT, have none either. Where all texts are short nothing changes.

    Args:
        config: The checkpoint's configuration.
        tokenizer: Reads a text.
        texts: What is trained on.
    """
    # a token is a byte or more, but for the blank that some put before a text
    suspects = [text for text in texts if 2 * len(text.encode(errors="replace")) >= tokenizer.max_length]
    long = any(encoding.truncated or len(encoding.windows) > 1 for encoding in tokenizer.encode(suspects))
    return {name: 0.0 for name in ATTENTION_DROPOUT if long and getattr(config, name, None)}


def text_logits(model: nn.Module, inputs: Mapping[str, Tensor], owners: Tensor, *, texts: int, at_once: int) -> Tensor:
    """The logits of texts that come as windows: each label's maximum over a text's windows.

    More windows than `at_once` are computed in parts, and the parts again in the backward pass (Chen et al. 2016,
    "Training Deep Nets with Sublinear Memory Cost", sec. 3), with the same dropout: a step holds the activations of one
    part, however long its texts are, and gives the same gradients.

    Args:
        model: A sequence classifier.
        inputs: What it takes, each of shape `(windows, ...)`.
        owners: Which text a window is of, shape `(windows,)`; every text has one window or more.
        texts: How many texts there are.
        at_once: Windows whose activations are held at once.

    Returns:
        Shape `(texts, n_labels)`.
    """

    def run(*part: Tensor) -> Tensor:
        logits: Tensor = model(**dict(zip(inputs, part, strict=True)))["logits"]
        return logits

    parts = list(zip(*(torch.split(value, at_once) for value in inputs.values()), strict=True))
    if len(parts) == 1 or not torch.is_grad_enabled():
        logits = torch.cat([run(*part) for part in parts])
    else:
        logits = torch.cat([checkpoint(run, *part, use_reentrant=False) for part in parts])
    return maxima(logits, owners, texts)


def maxima(logits: Tensor, owners: Tensor, texts: int) -> Tensor:
    """Each label's maximum over a text's windows; as they are where every text is one window.

    Args:
        logits: Shape `(windows, n_labels)`.
        owners: Which text a window is of, in order, shape `(windows,)`.
        texts: How many texts there are.

    Returns:
        Shape `(texts, n_labels)`.
    """
    if len(logits) == texts:
        return logits
    lowest = logits.new_full((texts, logits.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, owners[:, None].expand_as(logits), logits, "amax")
