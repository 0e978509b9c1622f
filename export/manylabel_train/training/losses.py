"""What training minimises.

A loss is a module that takes logits and targets of shape `(batch, n_labels)` and the rows' numbers in the training
data, shape `(batch,)`, and gives a scalar. Targets are 1, 0, or NaN where nobody said. The losses of `KNOWN_ONLY` leave
unknown entries out; those for single positives (Cole et al. 2021, "Multi-Label Learning from Single Positive Labels")
read them, and say how. All compute in fp32, whatever the logits come in.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import logsigmoid

KnownOnly = Literal["bce", "weighted-bce", "focal", "asymmetric"]
ForPositives = Literal["assume-negative", "smoothed-negative", "weak-negative", "expected-positives", "role"]
LossName = KnownOnly | ForPositives
KNOWN_ONLY: tuple[str, ...] = get_args(KnownOnly)
LOSSES: tuple[str, ...] = (*KNOWN_ONLY, *get_args(ForPositives))
COUNTING = ("expected-positives", "role")
"""The losses that have to be told how many labels a text has on average."""


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy with logits over the known entries.

    Args:
        positive_weights: How much a positive counts beside a negative, shape `(n_labels,)`; None for equally.
    """

    positive_weights: Tensor | None

    def __init__(self, positive_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("positive_weights", positive_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Mean over known entries; 0 where there are none."""
        known, filled = _split(targets)
        losses = cross_entropy(logits.float(), filled, pos_weight=self.positive_weights, reduction="none")
        return _mean(losses, known)


class Focal(nn.Module):
    """Focal loss (Lin et al. 2017, eq. 5, with the values of their sec. 5.1): what is decided already counts little."""

    GAMMA, ALPHA = 2.0, 0.25

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Mean over known entries; 0 where there are none."""
        known, filled = _split(targets)
        losses = cross_entropy(logits.float(), filled, reduction="none")
        right = torch.exp(-losses)  # the probability of what is true
        balance = filled * self.ALPHA + (1 - filled) * (1 - self.ALPHA)
        return _mean(balance * (1 - right) ** self.GAMMA * losses, known)


class Asymmetric(nn.Module):
    """Asymmetric loss (Ridnik et al. 2021, eq. 7, with the values they train by): easy negatives count little.

    Negatives below the margin count nothing at all. With their gamma of 0 a positive's loss is plain cross-entropy.
    """

    GAMMA_NEGATIVE, MARGIN = 4.0, 0.05

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Mean over known entries; 0 where there are none."""
        known, filled = _split(targets)
        logits = logits.float()
        shifted = (logits.sigmoid() - self.MARGIN).clamp(min=0)  # eq. 5; at most 0.95, so that the logarithm is finite
        negative = shifted**self.GAMMA_NEGATIVE * torch.log(1 - shifted)
        return _mean(-(filled * logsigmoid(logits) + (1 - filled) * negative), known)


class AssumeNegative(nn.Module):
    """What people do without thinking: an unknown label is taken to be absent (Cole et al. 2021, their AN).

    Args:
        weight: How much an entry taken to be absent counts; `1 / (n_labels - 1)` gives their WAN.
        smoothing: What each target is moved by toward the other; 0.1 gives their AN-LS.
    """

    def __init__(self, weight: float = 1.0, smoothing: float = 0.0) -> None:
        super().__init__()
        self.weight = weight
        self.smoothing = smoothing

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Sum over all entries by their weights, for each entry that there is."""
        known, filled = _split(targets)
        smoothed = filled * (1 - self.smoothing) + (1 - filled) * self.smoothing
        losses = cross_entropy(logits.float(), smoothed, reduction="none")
        return (losses * (known + (1 - known) * self.weight)).mean()


class ExpectedPositives(nn.Module):
    """Cross-entropy over known entries, and a text is to have as many labels as texts do (Cole et al. 2021, EPR).

    Args:
        positives: Labels that a text has on average.
    """

    def __init__(self, positives: float) -> None:
        super().__init__()
        self.positives = positives

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Sum over known entries for each entry that there is, plus how far the batch is from the expected number.

        That is the squared difference of the mean number of labels, over the squared number of labels that there are.
        """
        known, filled = _split(targets)
        logits = logits.float()
        losses = cross_entropy(logits, filled, reduction="none")
        found = logits.sigmoid().sum(dim=1).mean()
        return (losses * known).mean() + ((found - self.positives) / logits.shape[1]) ** 2


class Role(nn.Module):
    """Regularised online label estimation (Cole et al. 2021, their ROLE): unknown labels are learned too.

    Here a known entry stays what it is, where theirs is an estimate that starts close to it.

    Args:
        targets: Of the training data, shape `(n_rows, n_labels)`.
        positives: Labels that a text has on average.
    """

    START, SURE = 0.1, 0.995

    def __init__(self, targets: NDArray[np.float32], positives: float) -> None:
        super().__init__()
        random = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        known, filled = _split(torch.from_numpy(targets))
        sure = torch.logit(torch.tensor(self.SURE)) * (2 * filled - 1)
        start = torch.logit(torch.tensor(0.5 + self.START)) * random
        self.estimates = nn.Parameter(torch.where(known > 0, sure, start))
        self.regular = ExpectedPositives(positives)

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """The model learns from the estimates and they from it, each with the other held still."""
        known, filled = _split(targets)
        logits, own = logits.float(), self.estimates[rows]
        estimated = torch.where(known > 0, filled, own.sigmoid().detach())
        model = cross_entropy(logits, estimated) + self.regular(logits, targets, rows)
        estimates = cross_entropy(own, logits.sigmoid().detach()) + self.regular(own, targets, rows)
        both: Tensor = (model + estimates) / 2
        return both


def make_loss(name: str, targets: NDArray[np.float32], positives: float | None) -> nn.Module:
    """A loss by name.

    Args:
        name: One of `LOSSES`.
        targets: Of the training data, shape `(n_rows, n_labels)`.
        positives: Labels that a text has on average; needed by the losses of `COUNTING`.
    """
    others = max(targets.shape[1] - 1, 1)
    makers: dict[str, Callable[[], nn.Module]] = {
        "bce": BinaryCrossEntropy,
        "weighted-bce": lambda: BinaryCrossEntropy(_positive_weights(targets)),
        "focal": Focal,
        "asymmetric": Asymmetric,
        "assume-negative": AssumeNegative,
        "smoothed-negative": lambda: AssumeNegative(smoothing=0.1),
        "weak-negative": lambda: AssumeNegative(weight=1 / others),
        "expected-positives": lambda: ExpectedPositives(positives or 0),
        "role": lambda: Role(targets, positives or 0),
    }
    return makers[name]()


def _positive_weights(targets: NDArray[np.float32]) -> Tensor:
    """Negatives for each positive, as PyTorch's documentation of `pos_weight` advises; 1 where either is missing."""
    positives, negatives = np.nansum(targets, axis=0), np.nansum(1 - targets, axis=0)
    weights = np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1)
    return torch.from_numpy(weights.astype(np.float32))


def _split(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which entries are known, as 1 and 0, and the targets with 0 for the others."""
    return (~torch.isnan(targets)).float(), torch.nan_to_num(targets.float(), nan=0.0)


def _mean(losses: Tensor, known: Tensor) -> Tensor:
    return (losses * known).sum() / known.sum().clamp(min=1)
