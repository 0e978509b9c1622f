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

from manylabel.batching import Ids
from manylabel.errors import DeviceUnavailable

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
        device: Where the values lie that a recording reads and writes.
    """

    def __init__(
        self,
        ort: ModuleType,
        session: Any,
        feeds_of: Callable[[Ids], Mapping[str, Ids]],
        *,
        device: str = "cuda",
    ) -> None:
        self._ort, self._session, self._feeds_of, self._device = ort, session, feeds_of, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="manylabel-recorded")
        self._recordings: dict[int, _Recording] = {}
        self._unrecorded = _options(ort, NONE)

    def record(self, longest: int) -> None:
        """Record texts of every length up to one, and hold what each recording gives against a run without it.

        Args:
            longest: In tokens.

        Raises:
            DeviceUnavailable: A recording cannot be made, or gives something else.
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
        for length in range(1, longest + 1):
            try:
                self._recordings[length] = self._recording(length)
            except Exception as exc:  # onnxruntime's exceptions share no base but Exception
                said = str(exc).strip().split("\n")[0].rstrip(".")
                raise DeviceUnavailable(
                    f"a text of {length} tokens cannot be recorded as a CUDA graph: {said}. "
                    "Load the bundle with cuda_graphs=False."
                ) from exc

    def _recording(self, length: int) -> "_Recording":
        """One that has been found to give what the session gives without it."""
        tried = [np.zeros((1, length), np.int64), np.ones((1, length), np.int64)]  # of every vocabulary
        expected = [self._run_unrecorded(ids) for ids in tried]
        recording = self._new(tried[0], expected[0])
        for ids, due in zip((*tried, tried[0]), (*expected, expected[0]), strict=True):  # the first is recorded
            off = float(np.abs(recording.play(ids) - due).max())
            if not off <= CLOSE:
                raise ValueError(f"its probabilities are off by {off:.3g}")
        return recording

    def _new(self, ids: Ids, probabilities: Probabilities) -> "_Recording":
        """One that its first play makes, of the shapes of these."""
        new = self._ort.OrtValue
        feeds = self._feeds_of(ids.copy())  # a value on the CPU is the array itself, and is written to
        inputs = {name: new.ortvalue_from_numpy(fed, self._device, 0) for name, fed in feeds.items()}
        output = new.ortvalue_from_shape_and_type(probabilities.shape, probabilities.dtype.type, self._device, 0)
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


def _options(ort: ModuleType, number: str) -> Any:
    options = ort.RunOptions()
    options.add_run_config_entry(NUMBER, number)
    return options
