"""A bundle's variant in this package's runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manylabel import Bundle, Classifier
from manylabel.bundle.bundle import MANIFEST, TOKENIZER
from manylabel.inference.tokenizer import Encoding
from manylabel_bench.contenders import Scores, Setting


class Ours:
    """The classifier as its users call it. Watched in stages, it works on one thread."""

    batching = "equal"

    def __init__(self, precision: Any, setting: Setting) -> None:
        self._classifier = Classifier.load(setting.bundle, device="cpu", precision=precision, threads=setting.threads)

    def scores(self, texts: Sequence[str]) -> Scores:
        """As `Classifier.predict_proba`."""
        return self._classifier.predict_proba(texts)

    def tokenise(self, texts: Sequence[str]) -> list[Encoding]:
        """Windows of token ids."""
        return self._classifier.encode(texts)

    def run(self, tokens: list[Encoding]) -> Scores:
        """Probabilities of windows, shape `(n_windows, n_labels)`."""
        return self._classifier.score_windows([window for one in tokens for window in one.windows])


def load(variant: str, setting: Setting) -> Ours:
    """The variant of a precision."""
    return Ours(variant, setting)


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The files that are read."""
    bundle = Bundle.open(setting.bundle)
    return [bundle.path / name for name in (MANIFEST, TOKENIZER, bundle.variants[variant].file)]
