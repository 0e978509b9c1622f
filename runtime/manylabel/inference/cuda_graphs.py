"""CUDA graphs: capture what a short text runs on a GPU once per length, and replay it for every text.

A single short text computes in less time than it takes to launch a GPU's hundred kernels one by one; a captured graph
is launched at once. onnxruntime keeps captured graphs per thread, and replays them in memory that other runs of the
same session may be given in between: so everything that such a session runs is run on one thread.

Does not depend on texts, and takes onnxruntime as an argument.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.inference.length_batching import TokenIds

MAX_GRAPH_TOKENS = 64
"""Tokens of a text for which a graph is captured. There is one graph per length, captured when a bundle is loaded; a
longer text computes long enough for its kernels to be launched in the meantime."""

PROVIDER_OPTIONS = {"enable_cuda_graph": "1"}
"""Options of the CUDA execution provider; without them it captures nothing."""

GRAPH_ID = "gpu_graph_id"
"""onnxruntime's run option: which graph is captured or replayed."""

NO_GRAPH = "-1"
"""The graph ID of a run without a graph. A run without an ID would capture a graph of its own."""

REPLAY_TOLERANCE = 1e-3
"""The largest accepted difference between a replayed graph's probabilities and those of a run without one."""

Output = NDArray[np.floating[Any]]


class CudaGraphs:
    """Runs a CUDA session, with captured graphs for single short texts. Thread-safe.

    Args:
        ort: onnxruntime.
        session: Its session, created with `PROVIDER_OPTIONS`.
        feeds_of: From token ids, shape `(batch, sequence)`, to the graph's inputs; `input_ids` are the ids, the others
            depend only on the shape.

    Example:
        >>> ids = np.array([[101, 2460, 102]])
        >>> graphs = CudaGraphs(ort, session, lambda ids: {"input_ids": ids})  # doctest: +SKIP
        >>> graphs.capture(64)  # doctest: +SKIP
        >>> graphs.run(ids).shape  # doctest: +SKIP
        (1, 28)
    """

    def __init__(self, ort: ModuleType, session: Any, feeds_of: Callable[[TokenIds], Mapping[str, TokenIds]]) -> None:
        self._ort, self._session, self._feeds_of = ort, session, feeds_of
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="manylabel-cuda-graphs")
        self._graphs: dict[int, _CapturedGraph] = {}
        self._without_graph = _run_options(ort, NO_GRAPH)

    def capture(self, max_tokens: int) -> None:
        """Capture a graph for every length up to `max_tokens`, and compare each with a run without a graph.

        Raises:
            ValueError: A graph returns other probabilities. Whatever onnxruntime raises if it cannot capture one.
        """
        self._thread.submit(self._capture, max_tokens).result()

    def run(self, ids: TokenIds) -> Output:
        """Return the graph's probabilities for token ids of shape `(batch, sequence)`."""
        return self._thread.submit(self._run, ids).result()

    def _run(self, ids: TokenIds) -> Output:
        batch, length = ids.shape
        graph = self._graphs.get(length) if batch == 1 else None
        return graph.replay(ids) if graph else self._run_without_graph(ids)

    def _run_without_graph(self, ids: TokenIds) -> Output:
        (probabilities,) = self._session.run(["probabilities"], self._feeds_of(ids), self._without_graph)
        return np.asarray(probabilities)

    def _capture(self, max_tokens: int) -> None:
        lengths = range(1, max_tokens + 1)
        for length in lengths:
            ids = _sample_ids(length)[0]
            self._graphs[length] = self._new_graph(ids, self._run_without_graph(ids))
            self._graphs[length].replay(ids)
        for length in lengths:  # after all were replayed: none may read what another one writes
            self._check(length)

    def _check(self, length: int) -> None:
        for ids in _sample_ids(length):
            difference = float(np.abs(self._graphs[length].replay(ids) - self._run_without_graph(ids)).max())
            if not difference <= REPLAY_TOLERANCE:  # NaN fails too
                raise ValueError(f"for a text of {length} tokens its probabilities differ by {difference:.3g}")

    def _new_graph(self, ids: TokenIds, probabilities: Output) -> "_CapturedGraph":
        """Return a graph for one shape, which is captured when it is first replayed."""
        new = self._ort.OrtValue
        feeds = self._feeds_of(ids.copy())  # a value on the CPU is the array itself, and is written to
        inputs = {name: new.ortvalue_from_numpy(feed, "cuda", 0) for name, feed in feeds.items()}
        output = new.ortvalue_from_shape_and_type(probabilities.shape, probabilities.dtype.type, "cuda", 0)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("probabilities", output)
        options = _run_options(self._ort, str(ids.shape[1]))
        return _CapturedGraph(self._session, binding, inputs["input_ids"], output, options)


@dataclass(frozen=True)
class _CapturedGraph:
    """The graph of one length. Its inputs and output stay at their place in GPU memory; only the ids change."""

    session: Any
    binding: Any
    input_ids: Any
    output: Any
    options: Any

    def replay(self, ids: TokenIds) -> Output:
        self.input_ids.update_inplace(np.ascontiguousarray(ids))
        self.session.run_with_iobinding(self.binding, self.options)
        return np.array(self.output.numpy())


def _sample_ids(length: int) -> tuple[TokenIds, TokenIds]:
    """Return ids that every vocabulary has: those to capture with, and others to check with."""
    return np.zeros((1, length), np.int64), np.ones((1, length), np.int64)


def _run_options(ort: ModuleType, graph_id: str) -> Any:
    options = ort.RunOptions()
    options.add_run_config_entry(GRAPH_ID, graph_id)
    return options
