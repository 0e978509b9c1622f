"""The CUDA code paths without a GPU: onnxruntime on the CPU that behaves like a build for CUDA.

What such a build does without a GPU was observed with onnxruntime-gpu 1.31: get_providers() silently lacks CUDA. What
it does with CUDA graphs on a GPU was read from its sources and not observed.
"""

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from manylabel.inference import ort_loader, ort_session
from manylabel.inference.ort_loader import load_onnxruntime

onnxruntime = load_onnxruntime()  # without telemetry
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Cuda:
    """Stands in for an onnxruntime that is built for CUDA.

    Attributes:
        starts: Whether CUDA starts when a session is created; otherwise the session has only the CPU.
        failure: What a session raises when it is created ("load"), run ("run") or replays a graph ("replay").
        stale: Whether a replayed graph ignores its inputs and returns what it was captured with.
        shared: Whether a replayed graph overwrites the inputs of the graph that is one token shorter.
        session_options: The options of the last session.
        replays: How often each graph was captured or replayed, by its ID.
        graph_threads: The threads that did so.
    """

    def __init__(
        self,
        *,
        starts: bool = True,
        failure: tuple[Literal["load", "run", "replay"], str] | None = None,
        stale: bool = False,
        shared: bool = False,
    ) -> None:
        self.starts, self.failure, self.stale, self.shared = starts, failure, stale, shared
        self.preloaded = 0
        self.session_options: dict[str, Any] = {}
        self.replays: dict[str, int] = {}
        self.graph_threads: set[int] = set()
        self.inputs: dict[int, list[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", CUDA, CPU]

    def preload_dlls(self) -> None:
        print("Failed to load libcublas.so.13")  # as the real one does, on standard output
        self.preloaded += 1

    def InferenceSession(  # noqa: N802 - onnxruntime's name
        self, model: bytes, options: Any, *, providers: Sequence[Any], **more: Any
    ) -> Any:
        self.session_options = {"providers": providers, **more}
        self.fail("load")
        return _Session(self, onnxruntime.InferenceSession(model, options, providers=[CPU]), providers)

    @property
    def OrtValue(self) -> Any:  # noqa: N802 - onnxruntime's name
        return SimpleNamespace(
            ortvalue_from_numpy=self._from_numpy, ortvalue_from_shape_and_type=self._from_shape_and_type
        )

    def _from_numpy(self, content: Any, device: str, number: int) -> Any:
        assert (device, number) == ("cuda", 0)
        value = onnxruntime.OrtValue.ortvalue_from_numpy(content, "cpu", 0)
        self.inputs.setdefault(content.shape[1], []).append(value)
        return value

    def _from_shape_and_type(self, shape: Any, dtype: Any, device: str, number: int) -> Any:
        assert (device, number) == ("cuda", 0)
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cpu", 0)

    def write_over(self, length: int) -> None:
        for value in self.inputs.get(length, []):
            value.update_inplace(np.ones((1, length), np.int64))

    def fail(self, when: str) -> None:
        if self.failure and self.failure[0] == when:
            raise RuntimeError(self.failure[1])


class _Session:
    def __init__(self, cuda: Cuda, real: Any, providers: Sequence[Any]) -> None:
        self._cuda, self._real = cuda, real
        self._providers = [each if isinstance(each, str) else each[0] for each in providers]
        self._options = {} if isinstance(providers[0], str) else dict(providers[0][1])
        self._bindings: dict[tuple[int, str], Any] = {}
        self.get_inputs, self.get_outputs, self.io_binding = real.get_inputs, real.get_outputs, real.io_binding

    def get_providers(self) -> list[str]:
        return self._providers if self._cuda.starts else [CPU]

    def run(self, names: list[str], feeds: Any, options: Any = None) -> Any:
        self._cuda.fail("run")
        number = options.get_run_config_entry("gpu_graph_id") if options else "0"
        assert number == "-1" or not self._captures, "this run would capture a graph"
        return self._real.run(names, feeds)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self._cuda.fail("replay")
        number, thread = options.get_run_config_entry("gpu_graph_id"), threading.get_ident()
        assert self._captures
        first = (thread, number) not in self._bindings
        assert self._bindings.setdefault((thread, number), binding) is binding, "a graph keeps its binding"
        self._cuda.graph_threads.add(thread)
        self._cuda.replays[number] = self._cuda.replays.get(number, 0) + 1
        if first or not self._cuda.stale:
            self._real.run_with_iobinding(binding)
        if self._cuda.shared:
            self._cuda.write_over(int(number) - 1)

    @property
    def _captures(self) -> bool:
        return self._options.get("enable_cuda_graph") == "1"


def use(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, *, gpu: bool = True) -> Cuda:
    """Replace onnxruntime in the session and its loader."""
    for module in (ort_loader, ort_session):
        monkeypatch.setattr(module, "load_onnxruntime", lambda: cuda)
    monkeypatch.setattr(ort_loader, "has_gpu", lambda: gpu)
    return cuda
