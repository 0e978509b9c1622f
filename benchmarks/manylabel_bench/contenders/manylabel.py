"""A variant of the bundle, run by `manylabel.Classifier`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manylabel import Bundle, Classifier
from manylabel.bundle.bundle import MANIFEST, TOKENIZER
from manylabel.inference.tokenizer import Encoding
from manylabel_bench.contenders.registry import ContenderConfig, Scores


class ManylabelContender:
    """The classifier as its users call it. Timed stage by stage, it runs on one thread."""

    batching = "equal"

    def __init__(self, precision: Any, config: ContenderConfig) -> None:
        self._classifier = Classifier.load(config.bundle, device="cpu", precision=precision, threads=config.threads)

    def predict_proba(self, texts: Sequence[str]) -> Scores:
        """Call `Classifier.predict_proba`."""
        return self._classifier.predict_proba(texts)

    def tokenise(self, texts: Sequence[str]) -> list[Encoding]:
        """Return the windows of token ids of each text."""
        return self._classifier.encode(texts)

    def run(self, tokens: list[Encoding]) -> Scores:
        """Return the probabilities of all windows, shape `(n_windows, n_labels)`."""
        return self._classifier.score_windows([window for encoding in tokens for window in encoding.windows])


def load(variant: str, config: ContenderConfig) -> ManylabelContender:
    """Load the variant of a precision."""
    return ManylabelContender(variant, config)


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the files of the bundle that the variant reads."""
    bundle = Bundle.open(config.bundle)
    return [bundle.path / name for name in (MANIFEST, TOKENIZER, bundle.variants[variant].file)]
