"""The settings worth a measurement."""

from collections.abc import Mapping
from itertools import product
from typing import Literal

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.certificate import Budget
from manylabel.bundle.variants import variants_for
from manylabel.inference.length_batching import USUAL_TOKENS
from manylabel.load_options import Setting

SHARES = (0.5, 1, 2)
"""Of the usual size of a batch: what is tried."""


def candidates(
    bundle: Bundle,
    device: Literal["cpu", "cuda"],
    cores: int,
    refused: Mapping[str, str],
    *,
    cuda_graphs: bool = False,
) -> list[Setting]:
    """Every precision that is not refused, all cores and half of them, every size of batches.

    Half, as two cores that the system counts may share one core's units.

    Args:
        bundle: The bundle.
        device: What it will run on.
        cores: How many there are.
        refused: By precision, why it is not to be chosen.
        cuda_graphs: Whether all of it is tried with CUDA graphs, too.
    """
    precisions = [each.precision for each in variants_for(bundle, device) if each.precision not in refused]
    sizes = [int(share * USUAL_TOKENS[device]) for share in SHARES]
    threads = sorted({cores, max(1, cores // 2)})
    recorded = (False, True) if cuda_graphs else (False,)
    return [Setting(*each) for each in product(precisions, threads, sizes, recorded)]


def beyond_budget(bundle: Bundle) -> dict[str, str]:
    """By precision, why a variant is not to be chosen: it answers otherwise than its bundle's budget allows.

    Where the bundle was made without a budget, the usual one counts.
    """
    certificate = bundle.manifest.certificate
    budget = certificate.budget or Budget()
    return {precision: said for precision, parity in certificate.parity.items() if (said := budget.excess(parity))}
