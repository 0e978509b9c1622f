"""A batch that does not fit into memory is run in halves: whether it fits is known only once it was tried."""

from collections.abc import Callable

import numpy as np

from manylabel.errors import OutOfMemory
from manylabel.inference.length_batching import Ids, Scores

SPLITS = 4
"""How often a batch is halved: a sixteenth that still does not fit is no matter of the batch."""


def in_halves(run: Callable[[Ids], Scores], ids: Ids, splits: int = SPLITS) -> Scores:
    """What `run` gives for a batch, in as many parts as memory takes.

    Args:
        run: Ids of shape `(batch, n)` to scores of shape `(batch, m)`; a row's do not depend on the others.
        ids: The whole batch.
        splits: How often a part may be halved.

    Raises:
        OutOfMemory: A single row does not fit, or a part that was halved `splits` times.
    """
    try:
        return run(ids)
    except OutOfMemory:
        if splits == 0 or len(ids) == 1:
            raise
    middle = len(ids) // 2
    return np.concatenate([in_halves(run, part, splits - 1) for part in (ids[:middle], ids[middle:])])
