"""A graph that takes text, held to what it was made from on real texts: ids, probabilities and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from manylabel.errors import ParityError
from manylabel.inference.thresholding import decide
from manylabel.system.unicode import valid_unicode

TOLERANCE = 1e-4
"""Of probability. The same operators on the same ids; fp32 loses its mask, which moves it by 1e-6."""


def ids_of(proto: onnx.ModelProto) -> Callable[[str], list[int]]:
    """How a graph of `ids_graph` reads a text."""
    session = _open(proto)
    return lambda text: session.run(None, {"text": np.array([text], dtype=object)})[0].tolist()


def require_same_ids(proto: onnx.ModelProto, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Hold a graph of `ids_graph` to its tokenizer.

    Raises:
        ParityError: With the text that shows it.
    """
    read = ids_of(proto)
    for text in map(valid_unicode, texts):
        if read(text) != tokenizer.encode(text, add_special_tokens=False).ids:
            raise ParityError(
                f"the tokenizer in the graph reads {text[:200]!r} otherwise than tokenizer.json. Nothing was written. "
                "Leave --single-file out, and report the text."
            )


def require_same_answers(
    proto: onnx.ModelProto,
    texts: Sequence[str],
    labels: Sequence[str],
    expected: NDArray[np.float32],
    thresholds: NDArray[np.float32],
) -> None:
    """Hold a graph of `text_graph` to the answers of the graph that it was made from.

    Args:
        proto: The graph.
        texts: Real texts.
        labels: In column order.
        expected: The other graph's probabilities, shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.

    Raises:
        ParityError: With the text that shows it.
    """
    session = _open(proto)
    for text, row in zip(texts, expected, strict=True):
        named, found = session.run(["labels", "probabilities"], {"text": np.array([valid_unicode(text)], dtype=object)})
        wanted = [label for label, applies in zip(labels, decide(found[0], thresholds), strict=True) if applies]
        difference = float(np.abs(found[0] - row).max())
        if named.tolist() != wanted or not difference <= TOLERANCE:
            raise ParityError(
                f"the graph that takes text answers {text[:200]!r} otherwise than the bundle: probabilities differ by "
                f"{difference:.1e}, at most {TOLERANCE:g} is allowed. Nothing was written. Leave --single-file out."
            )


def _open(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """As anybody opens it, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
