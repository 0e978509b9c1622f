"""The quick way to out-of-sample scores: an encoder as it came, and a logistic regression that never saw the row."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from manylabel.inference.length_batching import group_by_length
from manylabel.inference.tokenizer import LongText
from manylabel_train.models import checkpoint

DECAYS = (0.01, 0.03, 0.1)
"""Weight decays to choose from, a label: on standardised features, a mean loss a row."""

Texts = tuple[str, ...]


def embed(source: str, texts: Texts, max_length: int) -> NDArray[np.float32]:
    """The means of a middle and of the last layer over each text's first tokens.

    The middle one knows words that the last one has merged into what the text is about: with both, more of the first
    suggestions of benchmarks/experiments/label_noise/run.py were right than with the last one alone.

    Args:
        source: A folder or hub name of an encoder.
        texts: `n` texts.
        max_length: Tokens of a text that are read.

    Returns:
        Standardised column by column, shape `(n, 2 * hidden_size)`.
    """
    encoder = checkpoint.load_model(source)[0].base_model
    beginnings = LongText("truncate", overlap=0)
    tokenizer = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(source), max_length, beginnings)
    windows = [encoding.windows[0] for encoding in tokenizer.encode(texts)]
    result = np.zeros((len(texts), 2 * encoder.config.hidden_size), dtype=np.float32)
    for places, ids in group_by_length(windows, max_tokens=4096):
        inputs = torch.from_numpy(ids).to(encoder.device)
        with torch.inference_mode():
            layers = encoder(
                input_ids=inputs, attention_mask=torch.ones_like(inputs), output_hidden_states=True
            ).hidden_states[1:]
        means = [layers[at].mean(dim=1) for at in ((2 * len(layers) + 1) // 3 - 1, -1)]
        result[places] = torch.cat(means, dim=1).float().cpu().numpy()
    return np.asarray((result - result.mean(axis=0)) / (result.std(axis=0) + 1e-6))


def held_out_scores(
    features: NDArray[np.float32], targets: NDArray[np.float32], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """For every row the probabilities by logistic regressions on the other folds' rows.

    Each label takes of `DECAYS` the one whose scores on held-out rows fit the given labels best.

    Args:
        features: Shape `(n, n_features)`.
        targets: 1, 0, or NaN for unknown, which is not learnt from; shape `(n, n_labels)`.
        folds: The fold of each row, shape `(n,)`.

    Returns:
        Shape `(n, n_labels)`.
    """
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    logits = torch.zeros(len(DECAYS), *targets.shape)
    for fold in np.unique(folds):
        out = torch.from_numpy(folds == fold)
        for at, decay in enumerate(DECAYS):
            weights, bias = _fit(x[~out], y[~out], decay)
            logits[at, out] = x[out] @ weights + bias
    losses = torch.stack([_loss(one, y).mean(dim=0) for one in logits])
    best = losses.argmin(dim=0)
    chosen = logits[best, :, torch.arange(targets.shape[1])].T
    return np.asarray(torch.sigmoid(chosen.double()).numpy())


def _fit(x: torch.Tensor, y: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A logistic regression a label, all at once: weights `(n_features, n_labels)` and biases `(n_labels,)`."""
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(x @ weights + bias, y).mean(dim=0).sum() + decay / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()


def _loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy entry by entry, 0 where the label is unknown."""
    loss = binary_cross_entropy_with_logits(logits, torch.nan_to_num(y), reduction="none")
    return torch.where(torch.isnan(y), torch.zeros_like(loss), loss)
