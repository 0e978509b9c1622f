"""CUDA graphs: what a short text asks of a GPU is recorded once a length, and played anew for every text.

A single short text is computed in less time than it takes to hand a GPU its hundred kernels one by one. Of a recording
it is handed all at once. onnxruntime keeps recordings by thread, and plays them in memory that other runs of the same
session may be granted meanwhile: all that such a session runs, it runs on one thread.

Knows nothing of texts, and of onnxruntime what it is handed.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.inference.length_batching import Ids

LONGEST = 64
"""Tokens of a text that is recorded at most. A recording a length is made when a bundle is loaded; a longer text
computes long enough to be handed its kernels meanwhile."""

PROVIDER_OPTIONS = {"enable_cuda_graph": "1"}
"""Of CUDA's execution provider, without which it records nothing."""

NUMBER = "gpu_graph_id"
"""onnxruntime's entry in the options of a run: which recording it makes or plays."""

NONE = "-1"
"""The number of none. A run that gives no number would make a recording of its own."""

CLOSE = 1e-3
"""By how much probabilities of a recording may be off those of the same graph without one."""

Probabilities = NDArray[np.floating[Any]]


class Recordings:
    """Runs a session of CUDA, single short texts from recordings. May be called from several threads at once.

    Args:
        ort: onnxruntime.
        session: Its session, made with `PROVIDER_OPTIONS`.
        feeds_of: From ids of shape `(batch, sequence)` to what each of the graph's inputs is fed; the ids as
            `input_ids`, and the others by the shape alone.
    """

    def __init__(self, ort: ModuleType, session: Any, feeds_of: Callable[[Ids], Mapping[str, Ids]]) -> None:
        self._ort, self._session, self._feeds_of = ort, session, feeds_of
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="manylabel-recorded")
        self._recordings: dict[int, _Recording] = {}
        self._unrecorded = _options(ort, NONE)

    def record(self, longest: int) -> None:
        """Record texts of every length up to one, and hold what each recording gives against a run without it.

        Args:
            longest: In tokens.

        Raises:
            ValueError: One gives something else. What onnxruntime raises, where one cannot be made.
        """
        self._thread.submit(self._record, longest).result()

    def run(self, ids: Ids) -> Probabilities:
        """The graph's probabilities of ids of shape `(batch, sequence)`, as it gives them."""
        return self._thread.submit(self._run, ids).result()

    def _run(self, ids: Ids) -> Probabilities:
        batch, length = ids.shape
        recording = self._recordings.get(length) if batch == 1 else None
        return recording.play(ids) if recording else self._run_unrecorded(ids)

    def _run_unrecorded(self, ids: Ids) -> Probabilities:
        (probabilities,) = self._session.run(["probabilities"], self._feeds_of(ids), self._unrecorded)
        return np.asarray(probabilities)

    def _record(self, longest: int) -> None:
        lengths = range(1, longest + 1)
        for length in lengths:
            ids = _tried(length)[0]
            self._recordings[length] = self._new(ids, self._run_unrecorded(ids))
            self._recordings[length].play(ids)
        for length in lengths:  # once all the others have been played: what they write, it must not read
            self._try(length)

    def _try(self, length: int) -> None:
        for ids in _tried(length):
            off = float(np.abs(self._recordings[length].play(ids) - self._run_unrecorded(ids)).max())
            if not off <= CLOSE:
                raise ValueError(f"of a text of {length} tokens its probabilities are off by {off:.3g}")

    def _new(self, ids: Ids, probabilities: Probabilities) -> "_Recording":
        """One that is made as it is first played, of these shapes."""
        new = self._ort.OrtValue
        feeds = self._feeds_of(ids.copy())  # a value on the CPU is the array itself, and is written to
        inputs = {name: new.ortvalue_from_numpy(fed, "cuda", 0) for name, fed in feeds.items()}
        output = new.ortvalue_from_shape_and_type(probabilities.shape, probabilities.dtype.type, "cuda", 0)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("probabilities", output)
        return _Recording(self._session, binding, inputs["input_ids"], output, _options(self._ort, str(ids.shape[1])))


@dataclass(frozen=True)
class _Recording:
    """One length's. Its inputs and its output stay where they are in the GPU's memory, and the ids alone change."""

    session: Any
    binding: Any
    input_ids: Any
    output: Any
    options: Any

    def play(self, ids: Ids) -> Probabilities:
        self.input_ids.update_inplace(np.ascontiguousarray(ids))
        self.session.run_with_iobinding(self.binding, self.options)
        return np.array(self.output.numpy())


def _tried(length: int) -> tuple[Ids, Ids]:
    """Ids that every vocabulary has: those that are recorded, and others."""
    return np.zeros((1, length), np.int64), np.ones((1, length), np.int64)


def _options(ort: ModuleType, number: str) -> Any:
    options = ort.RunOptions()
    options.add_run_config_entry(NUMBER, number)
    return options
