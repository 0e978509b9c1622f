"""A probe on a frozen encoder: logistic regressions on its embeddings, the fast way to out-of-sample scores."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from manylabel.inference.length_batching import group_by_length
from manylabel.inference.tokenizer import LongText
from manylabel_train.models import checkpoint

WEIGHT_DECAYS = (0.01, 0.03, 0.1)
"""Weight decays to choose from for each label, on standardised features and a mean loss over rows."""


def embed(source: str, texts: tuple[str, ...], max_length: int) -> NDArray[np.float32]:
    """Return the mean of a middle layer and of the last layer over each text's first tokens.

    The middle layer distinguishes words that the last one merges into the text's topic: with both, more of the first
    suggestions of benchmarks/experiments/label_noise/run.py were right than with the last one alone.

    Args:
        source: A folder or Hub name of an encoder.
        texts: `n` texts.
        max_length: Number of tokens to read of each text.

    Returns:
        Standardised by column, shape `(n, 2 * hidden_size)`.
    """
    encoder = checkpoint.load_model(source)[0].base_model
    truncate = LongText("truncate", overlap=0)
    tokenizer = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(source), max_length, truncate)
    windows = [encoding.windows[0] for encoding in tokenizer.encode(texts)]
    features = np.zeros((len(texts), 2 * encoder.config.hidden_size), dtype=np.float32)
    for rows, ids in group_by_length(windows, max_tokens=4096):
        inputs = torch.from_numpy(ids).to(encoder.device)
        with torch.inference_mode():
            layers = encoder(
                input_ids=inputs, attention_mask=torch.ones_like(inputs), output_hidden_states=True
            ).hidden_states[1:]
        means = [layers[index].mean(dim=1) for index in ((2 * len(layers) + 1) // 3 - 1, -1)]
        features[rows] = torch.cat(means, dim=1).float().cpu().numpy()
    return np.asarray((features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6))


def predict_out_of_fold(
    features: NDArray[np.float32], targets: NDArray[np.float32], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return each row's probabilities from logistic regressions on the rows of the other folds.

    Each label gets the one of `WEIGHT_DECAYS` whose out-of-fold scores fit the given labels best.

    Args:
        features: Shape `(n, n_features)`.
        targets: 1, 0, or NaN for unknown, which is not trained on; shape `(n, n_labels)`.
        folds: The fold of each row, shape `(n,)`.

    Returns:
        Shape `(n, n_labels)`.
    """
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    logits = torch.zeros(len(WEIGHT_DECAYS), *targets.shape)
    for fold in np.unique(folds):
        held_out = torch.from_numpy(folds == fold)
        for index, decay in enumerate(WEIGHT_DECAYS):
            weights, bias = _fit(x[~held_out], y[~held_out], decay)
            logits[index, held_out] = x[held_out] @ weights + bias
    losses = torch.stack([_loss(each, y).mean(dim=0) for each in logits])
    best = losses.argmin(dim=0)
    chosen = logits[best, :, torch.arange(targets.shape[1])].T
    return np.asarray(torch.sigmoid(chosen.double()).numpy())


def _fit(x: torch.Tensor, y: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the logistic regressions of all labels at once: weights `(n_features, n_labels)`, biases `(n_labels,)`."""
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
    """Return the cross-entropy of every entry; 0 where the label is unknown."""
    loss = binary_cross_entropy_with_logits(logits, torch.nan_to_num(y), reduction="none")
    return torch.where(torch.isnan(y), torch.zeros_like(loss), loss)
