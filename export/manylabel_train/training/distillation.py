"""The loss by which a model learns what is known and keeps what its former self says of the rest."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy


class Distillation(nn.Module):
    """Binary cross-entropy with known targets where there are, else with a former model's probabilities.

    That is Li and Hoiem 2016, eq. 1 and 2, each label a task with two answers, both losses with the weight 1 and the
    temperature 1.

    Args:
        soft: The former model's probabilities of the training texts, NaN where it has none, shape
            `(n_rows, n_labels)`.
    """

    soft: Tensor

    def __init__(self, soft: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("soft", torch.from_numpy(soft), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Mean over all entries of which anything is said; 0 where there are none."""
        wanted = torch.where(torch.isnan(targets), self.soft[rows], targets.float())
        told = (~torch.isnan(wanted)).float()
        losses = cross_entropy(logits.float(), torch.nan_to_num(wanted, nan=0.0), reduction="none")
        return (losses * told).sum() / told.sum().clamp(min=1)
