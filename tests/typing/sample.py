"""Typical code of a user, for type checkers only: each result has its documented type."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from manylabel import Bundle, BundleError, Classifier, ManylabelError, Prediction

classifier = Classifier.load("bundle", device="cpu", precision="int8", threads=2, verify_key=Path("key"), digest="c4")
assert_type(classifier, Classifier)
assert_type(Classifier.load(Path("bundle")), Classifier)

assert_type(classifier.predict("one text"), list[list[str]])
assert_type(classifier.predict(["several", "texts"], thresholds=0.4), list[list[str]])
classifier.predict(("a", "b"), thresholds={"price": 0.4})
classifier.predict((text for text in "ab"), thresholds=[0.1, 0.2])
classifier.predict("a", thresholds=np.array([0.1], dtype=np.float32))
assert_type(classifier.predict_proba("one text"), NDArray[np.float32])
assert_type(classifier.classify(["a"], top_k=3), list[Prediction])
assert_type(classifier.stream(iter(["a", "b"])), Iterator[Prediction])

prediction = classifier.classify("a")[0]
assert_type(prediction.labels, list[str])
assert_type(prediction.scores, dict[str, float])
assert_type(prediction.n_tokens, int)
assert_type(prediction.truncated, bool)

assert_type(classifier.classes_, NDArray[np.str_])
assert_type(classifier.thresholds_, NDArray[np.float32])
assert_type(classifier.device, str)
assert_type(classifier.precision, str)
assert_type(classifier.window_spans("a"), list[tuple[int, int]])
assert_type(classifier.score_windows([np.zeros(3, dtype=np.int64)]), NDArray[np.float32])

explanation = classifier.explain("a text", "price")
assert_type(explanation.label, str)
assert_type(explanation.score, float)
assert_type(explanation.to_html(), str)

bundle = Bundle.open("bundle", digest="c4")
assert_type(bundle, Bundle)
assert_type(bundle.labels, tuple[str, ...])
assert_type(bundle.path, Path)
assert_type(bundle.digest, str)
assert_type(bundle.origin, str)
assert_type(bundle.verify(), None)


class Frame:
    """A data frame of another library."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Implement Arrow's PyCapsule interface."""
        raise NotImplementedError


classifier.predict_frame(Frame(), "review", probabilities="list")


def labels_of(texts: Sequence[str]) -> set[str]:
    """Use the library in a function whose types follow from the library's."""
    try:
        return {label for labels in classifier.predict(texts) for label in labels}
    except BundleError as exc:
        assert_type(exc.exit_code, int)
        raise
    except ManylabelError:
        return set()
