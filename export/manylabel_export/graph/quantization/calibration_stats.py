"""What real texts do to the activations of a graph: how far each channel reaches, and which go together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from manylabel_export.graph.analysis.linear_layers import products, split_gemms
from manylabel_export.graph.ir.editor import Editor, clone
from manylabel_export.graph.ir.serialization import session_of


@dataclass(frozen=True)
class Moments:
    """Sums over the rows (tokens) of an activation; those of several are added with `+`.

    Attributes:
        rows: How many there were.
        low, high: The least and the greatest value of each channel, 0 at least and at most, shape `(width,)`.
        second: Sum of `x.T @ x`, shape `(width, width)`.
        peaks: Sum of the squares of each row's greatest absolute value.
    """

    rows: int
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    second: NDArray[np.float32]
    peaks: float

    @classmethod
    def of(cls, activation: NDArray[np.float32]) -> Moments:
        """Of an activation, shape `(..., width)`."""
        x = activation.reshape(-1, activation.shape[-1])
        low, high = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
        return cls(len(x), low, high, x.T @ x, float((np.abs(x).max(axis=1) ** 2).sum()))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.rows + other.rows,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.second + other.second,
            self.peaks + other.peaks,
        )


def measure(proto: onnx.ModelProto, batches: Iterable[NDArray[np.int64]]) -> dict[str, Moments]:
    """The moments of everything that int8 will quantise.

    Args:
        proto: The fused graph that `quantise` is to be given.
        batches: Token ids of real texts, each `(batch, sequence)`.

    Returns:
        By the names of activations; empty where there are no texts.
    """
    editor = Editor(clone(proto))
    split_gemms(editor)
    names = list(dict.fromkeys(node.input[0] for node in products(editor)))
    session = watch(proto, names)
    found: dict[str, list[Moments]] = {}
    for ids in batches:
        for name, activation in zip(names, session.run(names, {"input_ids": ids}), strict=True):
            found[name] = [reduce(add, [*found.get(name, ()), Moments.of(activation)])]
    return {name: moments for name, (moments,) in found.items()}


def watch(proto: onnx.ModelProto, names: Iterable[str]) -> onnxruntime.InferenceSession:
    """A session that tells what some tensors inside a graph are."""
    watched = clone(proto)
    already = {value.name for value in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in already)
    return session_of(watched)
