"""Training on long texts: all windows of a text pass through the model, and each label takes their maximum logit.

This is how the runtime scores a long text: the window with the maximum logit has the maximum probability.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from manylabel.inference.tokenizer import Tokenizer

MAX_WINDOWS = 8
"""How many windows of a text are trained on, from its beginning: 3,856 tokens if the model reads 512 at once. In
evaluation and inference up to 32 windows are used."""

ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
"""The names of attention dropout in configurations."""


def attention_dropout_overrides(config: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Return configuration fields that disable attention dropout if a training text is longer than `max_length`.

    With attention dropout PyTorch has to store the attention weights of every pair of tokens: eight windows of 512
    tokens of MiniLM-L6, forward and backward in bf16 on one core of Zen 4, took 5.0 s with and 2.0 s without. Encoders
    made for long texts, such as ModernBERT, have no attention dropout either. If all texts are short nothing changes.

    Args:
        config: The checkpoint's configuration.
        tokenizer: The tokenizer of the training.
        texts: The training texts.
    """
    # a token has at least one byte, except for the blank that some tokenizers put before a text
    candidates = [text for text in texts if 2 * len(text.encode(errors="replace")) >= tokenizer.max_length]
    long = any(encoding.truncated or len(encoding.windows) > 1 for encoding in tokenizer.encode(candidates))
    return {name: 0.0 for name in ATTENTION_DROPOUT if long and getattr(config, name, None)}


def text_logits(model: nn.Module, inputs: Mapping[str, Tensor], owners: Tensor, *, texts: int, at_once: int) -> Tensor:
    """Compute the logits of texts that consist of windows: each label's maximum over a text's windows.

    More windows than `at_once` are computed in parts, which are recomputed in the backward pass with the same dropout
    (gradient checkpointing; Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", sec. 3). A step stores
    the activations of one part, however long its texts are, and the gradients are the same.

    Args:
        model: A sequence classifier.
        inputs: The model's inputs, each of shape `(windows, ...)`.
        owners: The text of each window, shape `(windows,)`; every text has at least one window.
        texts: Number of texts.
        at_once: Number of windows whose activations are stored at once.

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
    return max_over_windows(logits, owners, texts)


def max_over_windows(logits: Tensor, owners: Tensor, texts: int) -> Tensor:
    """Return each label's maximum over a text's windows; the logits themselves if every text has one window.

    Args:
        logits: Shape `(windows, n_labels)`.
        owners: The text of each window, in order, shape `(windows,)`.
        texts: Number of texts.

    Returns:
        Shape `(texts, n_labels)`.

    Example:
        >>> import torch
        >>> max_over_windows(torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([0, 0, 1]), texts=2)
        tensor([[3.],
                [2.]])
    """
    if len(logits) == texts:
        return logits
    lowest = logits.new_full((texts, logits.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, owners[:, None].expand_as(logits), logits, "amax")
