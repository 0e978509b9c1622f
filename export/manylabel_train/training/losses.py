"""Training losses for multi-label classification, including losses for positives only and distillation.

A loss is a module that takes logits and targets of shape `(batch, n_labels)` and the rows' numbers in the training
data, shape `(batch,)`, and returns a scalar. Targets are 1, 0, or NaN where the label is unknown. The losses of
`KNOWN_ONLY` leave unknown entries out; those for single positives (Cole et al. 2021, "Multi-Label Learning from Single
Positive Labels") use them, each in its own way. All compute in fp32, whatever the precision of the logits.
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
PositivesOnly = Literal["assume-negative", "smoothed-negative", "weak-negative", "expected-positives", "role"]
LossName = KnownOnly | PositivesOnly
KNOWN_ONLY: tuple[str, ...] = get_args(KnownOnly)
LOSSES: tuple[str, ...] = (*KNOWN_ONLY, *get_args(PositivesOnly))
NEED_LABELS_PER_TEXT = ("expected-positives", "role")
"""The losses that need the mean number of labels of a text."""


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy with logits over the known entries.

    Args:
        positive_weights: Weight of a positive relative to a negative, shape `(n_labels,)`; None for equal weights.

    Example:
        >>> import torch
        >>> targets = torch.tensor([[1.0, float("nan")]])
        >>> BinaryCrossEntropy()(torch.zeros(1, 2), targets, torch.tensor([0]))
        tensor(0.6931)
    """

    positive_weights: Tensor | None

    def __init__(self, positive_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("positive_weights", positive_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Compute the mean over known entries; 0 without any."""
        known, filled = _split_known(targets)
        losses = cross_entropy(logits.float(), filled, pos_weight=self.positive_weights, reduction="none")
        return _mean_over_known(losses, known)


class Focal(nn.Module):
    """Focal loss (Lin et al. 2017, eq. 5, with the values of their sec. 5.1): well-classified entries count little.

    Example:
        >>> import torch
        >>> loss, targets, rows = Focal(), torch.tensor([[1.0]]), torch.tensor([0])
        >>> bool(loss(torch.tensor([[3.0]]), targets, rows) < 0.01 * loss(torch.tensor([[0.0]]), targets, rows))
        True
    """

    GAMMA, ALPHA = 2.0, 0.25

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Compute the mean over known entries; 0 without any."""
        known, filled = _split_known(targets)
        losses = cross_entropy(logits.float(), filled, reduction="none")
        probability_of_target = torch.exp(-losses)
        balance = filled * self.ALPHA + (1 - filled) * (1 - self.ALPHA)
        return _mean_over_known(balance * (1 - probability_of_target) ** self.GAMMA * losses, known)


class Asymmetric(nn.Module):
    """Asymmetric loss (Ridnik et al. 2021, eq. 7, with their training values): easy negatives count little.

    Negatives with probabilities below the margin count nothing. As the paper's gamma for positives is 0, a positive's
    loss is plain cross-entropy.

    Example:
        >>> import torch
        >>> float(Asymmetric()(torch.tensor([[-3.0]]), torch.tensor([[0.0]]), torch.tensor([0])))
        0.0
    """

    GAMMA_NEGATIVE, MARGIN = 4.0, 0.05

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Compute the mean over known entries; 0 without any."""
        known, filled = _split_known(targets)
        logits = logits.float()
        shifted = (logits.sigmoid() - self.MARGIN).clamp(min=0)  # eq. 5; at most 0.95, so that the logarithm is finite
        negative = shifted**self.GAMMA_NEGATIVE * torch.log(1 - shifted)
        return _mean_over_known(-(filled * logsigmoid(logits) + (1 - filled) * negative), known)


class AssumeNegative(nn.Module):
    """Cross-entropy that takes unknown labels to be absent (Cole et al. 2021, AN): the common implicit choice.

    Args:
        weight: Weight of an entry that is taken to be absent; `1 / (n_labels - 1)` gives their WAN.
        smoothing: How far each target is moved toward the other; 0.1 gives their AN-LS.

    Example:
        >>> import torch
        >>> AssumeNegative(weight=0.0)(torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]]), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(self, weight: float = 1.0, smoothing: float = 0.0) -> None:
        super().__init__()
        self.weight = weight
        self.smoothing = smoothing

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Compute the weighted sum over all entries, divided by the number of entries."""
        known, filled = _split_known(targets)
        smoothed = filled * (1 - self.smoothing) + (1 - filled) * self.smoothing
        losses = cross_entropy(logits.float(), smoothed, reduction="none")
        return (losses * (known + (1 - known) * self.weight)).mean()


class ExpectedPositives(nn.Module):
    """Cross-entropy over known entries, regularised by the expected number of labels (Cole et al. 2021, EPR).

    Args:
        positives: Mean number of labels of a text.

    Example:
        >>> import torch
        >>> unknown = torch.full((1, 2), float("nan"))
        >>> float(ExpectedPositives(positives=1)(torch.zeros(1, 2), unknown, torch.tensor([0])))  # two halves are one
        0.0
    """

    def __init__(self, positives: float) -> None:
        super().__init__()
        self.positives = positives

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Compute the sum over known entries divided by the number of entries, plus the regulariser.

        The regulariser is the squared difference between the batch's mean number of labels and the expected one,
        divided by the squared number of label columns.
        """
        known, filled = _split_known(targets)
        logits = logits.float()
        losses = cross_entropy(logits, filled, reduction="none")
        predicted = logits.sigmoid().sum(dim=1).mean()
        return (losses * known).mean() + ((predicted - self.positives) / logits.shape[1]) ** 2


class Role(nn.Module):
    """Regularised online label estimation (Cole et al. 2021, ROLE): the unknown labels are learned as well.

    Here a known entry stays fixed, where theirs is an estimate that starts close to it.

    Args:
        targets: Targets of the training data, shape `(n_rows, n_labels)`.
        positives: Mean number of labels of a text.

    Example:
        >>> import numpy as np
        >>> loss = Role(np.array([[1, np.nan]], dtype=np.float32), positives=1.0)
        >>> loss.estimates.shape
        torch.Size([1, 2])
    """

    START, CERTAIN = 0.1, 0.995

    def __init__(self, targets: NDArray[np.float32], positives: float) -> None:
        super().__init__()
        random = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        known, filled = _split_known(torch.from_numpy(targets))
        certain = torch.logit(torch.tensor(self.CERTAIN)) * (2 * filled - 1)
        start = torch.logit(torch.tensor(0.5 + self.START)) * random
        self.estimates = nn.Parameter(torch.where(known > 0, certain, start))
        self.regulariser = ExpectedPositives(positives)

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Train the model on the estimates and the estimates on the model, each with the other held constant."""
        known, filled = _split_known(targets)
        logits, own = logits.float(), self.estimates[rows]
        estimated = torch.where(known > 0, filled, own.sigmoid().detach())
        model = cross_entropy(logits, estimated) + self.regulariser(logits, targets, rows)
        estimates = cross_entropy(own, logits.sigmoid().detach()) + self.regulariser(own, targets, rows)
        both: Tensor = (model + estimates) / 2
        return both


class Distillation(nn.Module):
    """Knowledge distillation: cross-entropy with known targets, and with a teacher's probabilities where unknown.

    Learning without Forgetting (Li and Hoiem 2016, eq. 1 and 2), each label a task with two classes, both losses with
    weight 1 and temperature 1.

    Args:
        soft: The teacher's probabilities of the training texts, NaN where it has none, shape `(n_rows, n_labels)`.

    Example:
        >>> import numpy as np, torch
        >>> loss = Distillation(np.array([[0.5, 0.9]], dtype=np.float32))
        >>> loss(torch.zeros(1, 2), torch.tensor([[float("nan"), 1.0]]), torch.tensor([0]))
        tensor(0.6931)
    """

    soft: Tensor

    def __init__(self, soft: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("soft", torch.from_numpy(soft), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Compute the mean over entries with a known or soft target; 0 without any."""
        wanted = torch.where(torch.isnan(targets), self.soft[rows], targets.float())
        known, filled = _split_known(wanted)
        return _mean_over_known(cross_entropy(logits.float(), filled, reduction="none"), known)


def make_loss(name: str, targets: NDArray[np.float32], positives: float | None) -> nn.Module:
    """Create a loss by name.

    Args:
        name: One of `LOSSES`.
        targets: Targets of the training data, shape `(n_rows, n_labels)`.
        positives: Mean number of labels of a text; needed by the losses of `NEED_LABELS_PER_TEXT`.

    Example:
        >>> import numpy as np
        >>> make_loss("focal", np.zeros((1, 2), dtype=np.float32), None)
        Focal()
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
    """Return negatives per positive, as PyTorch's documentation of `pos_weight` advises; 1 where either is missing."""
    positives, negatives = np.nansum(targets, axis=0), np.nansum(1 - targets, axis=0)
    weights = np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1)
    return torch.from_numpy(weights.astype(np.float32))


def _split_known(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return which entries are known, as 1 and 0, and the targets with 0 for unknown entries."""
    return (~torch.isnan(targets)).float(), torch.nan_to_num(targets.float(), nan=0.0)


def _mean_over_known(losses: Tensor, known: Tensor) -> Tensor:
    return (losses * known).sum() / known.sum().clamp(min=1)
