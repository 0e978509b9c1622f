"""What an export is held to: token ids of the runtime as transformers', answers of the fp32 graph as PyTorch's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from manylabel.certify.parity import VariantScores, find_flips_and_ties
from manylabel.errors import ParityError
from manylabel.inference.tokenizer import Encoding
from manylabel.system.unicode import LONE_SURROGATE

FP32_TOLERANCE = 1e-4
"""fp32 beyond this fails the export. What is seen is 1e-6 and less: rounding in another order."""

Scores = NDArray[np.float32]


def require_equal(
    texts: Sequence[str],
    labels: Sequence[str],
    expected: Scores,
    found: Scores,
    thresholds: NDArray[np.float32],
) -> None:
    """Hold the fp32 graph to PyTorch: no probability further off than 1e-4, no decision flipped that is not a tie.

    Raises:
        ParityError: With the text that shows it.
    """
    difference = np.abs(expected - found)
    flips, _ = find_flips_and_ties(VariantScores(expected, thresholds), VariantScores(found, thresholds))
    wrong = ~(difference <= FP32_TOLERANCE) | flips  # so that NaN counts as wrong
    if not wrong.any():
        return
    worst = int(np.argmax(np.where(wrong, np.nan_to_num(difference, nan=np.inf), -1)))
    row, column = divmod(worst, len(labels))
    raise ParityError(
        f"the fp32 graph does not answer as PyTorch: for {labels[column]!r} it gives {found[row, column]:.6f} "
        f"where PyTorch gives {expected[row, column]:.6f} ({int(wrong.sum())} of {wrong.size} answers are off by more "
        f"than {FP32_TOLERANCE:g} or decided otherwise), on the text {texts[row][:200]!r}. Nothing was written. "
        "Try the other engine: --engine torch or --engine optimum."
    )


def require_same_tokens(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, encodings: Sequence[Encoding]
) -> None:
    """Hold the runtime's token ids to those of transformers, for texts that fit in one window.

    Raises:
        ParityError: With the text that shows it.
    """
    for text, encoding in zip(texts, encodings, strict=True):
        if len(encoding.windows) > 1 or encoding.truncated or LONE_SURROGATE.search(text):
            continue  # transformers refuses lone surrogates, which the runtime reads as U+FFFD
        ids = tokenizer(text, truncation=False, padding=False)["input_ids"]
        if ids != encoding.windows[0].tolist():
            raise ParityError(
                f"transformers and the runtime tokenise {text[:200]!r} differently. Nothing was written: "
                "the checkpoint's tokenizer is not supported."
            )
