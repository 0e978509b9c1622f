"""One graph in ONNX Runtime: arrays in, arrays out.

The session does not depend on texts, labels or folders.
"""

import os
from collections.abc import Container, Mapping
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import (
    BundleError,
    DeviceUnavailable,
    ForkedProcess,
    ManylabelError,
    NonFiniteScore,
    OutOfMemory,
    first_line,
)
from manylabel.inference.cuda_graphs import PROVIDER_OPTIONS, CudaGraphs
from manylabel.inference.length_batching import Probabilities, TokenIds, split_on_oom
from manylabel.inference.ort_loader import PROVIDERS, check_device, int8_saturates, load_onnxruntime
from manylabel.system.resource_errors import memory_advice, mentions_out_of_memory

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
WITHOUT_CUDA_GRAPHS = "Load the bundle with cuda_graphs=False."
EXPORT_AGAIN = "Export the checkpoint again."


class Session:
    """A graph that maps token ids to probabilities. Thread-safe.

    A call computes on the calling thread, unless `threads` is larger than 1. One call per core at a time uses all
    cores, keeps one copy of the weights, and leaves no thread pool that spins while idle.

    Args:
        model: The serialized graph, or a path to it, which takes less memory. The session feeds the inputs that the
            graph declares: `input_ids`, `attention_mask`, `token_type_ids`.
        device: `"cpu"` or `"cuda"`. There is no fallback to another device.
        optimized: The graph is already fused; load it as it is. On the CPU onnxruntime would fuse operators that are
            faster apart.
        weights: The content of the files that the graph refers to, by name. No file is opened: a graph that refers to
            another file is rejected.
        threads: The number of threads that share a call on the CPU, including the caller's. They spin during a call,
            not between calls.
        cuda_graph_tokens: Capture CUDA graphs for single texts of up to this many tokens; 0 for none. They are
            captured and checked here.

    Raises:
        MissingDependency: onnxruntime is not installed, or installed in both of its builds.
        DeviceUnavailable: The device cannot be used, or not with CUDA graphs.
        BundleError: onnxruntime cannot load the graph, or its inputs or outputs are not as expected.

    Example:
        >>> import numpy as np
        >>> session = Session("bundle/model.onnx", device="cpu")
        >>> session.run(np.array([[2, 7, 3]])).shape
        (1, 4)
    """

    def __init__(
        self,
        model: bytes | str,
        *,
        device: Literal["cpu", "cuda"],
        optimized: bool = False,
        weights: Mapping[str, bytes | NDArray[np.uint8]] = MappingProxyType({}),
        threads: int = 1,
        cuda_graph_tokens: int = 0,
    ) -> None:
        ort = load_onnxruntime()
        check_device(ort, device)
        provider_options = PROVIDER_OPTIONS if cuda_graph_tokens else {}
        self._session = _open(
            ort, model, device, provider_options, optimized=optimized, weights=weights, threads=threads
        )
        self.inputs = [argument.name for argument in self._session.get_inputs()]
        self._pid = os.getpid()
        self.num_labels = self._check_graph()
        self.device = device
        self._cuda_graphs: CudaGraphs | None = None
        if cuda_graph_tokens:
            self._cuda_graphs = CudaGraphs(ort, self._session, partial(_feeds, self.inputs))
            try:
                self._cuda_graphs.capture(cuda_graph_tokens)
            except Exception as exc:  # onnxruntime's exceptions share no base but Exception
                raise DeviceUnavailable(
                    f"a CUDA graph fails: {first_line(exc).rstrip('.')}. {WITHOUT_CUDA_GRAPHS}"
                ) from exc

    def run(self, input_ids: TokenIds) -> Probabilities:
        """Return the probabilities of a batch without padding.

        Args:
            input_ids: Shape `(batch, sequence)`.

        Returns:
            Shape `(batch, num_labels)`.

        Raises:
            ForkedProcess: The session was created in another process.
            BundleError: The graph fails, or its output has another shape.
            NonFiniteScore: The model returned NaN or infinity.
            OutOfMemory: The batch does not fit into the device's memory, even in small parts.
        """
        self.check_process()
        return split_on_oom(self._run, input_ids)

    def _run(self, input_ids: TokenIds) -> Probabilities:
        try:
            if self._cuda_graphs:
                probabilities = self._cuda_graphs.run(input_ids)
            else:
                (probabilities,) = self._session.run(["probabilities"], _feeds(self.inputs, input_ids))
        except Exception as exc:  # onnxruntime's exceptions share no base but Exception
            raise _translate(exc, f"the graph failed on a batch of shape {input_ids.shape}", self.device) from exc
        if probabilities.shape != (len(input_ids), self.num_labels):
            raise BundleError(
                f"on a batch of shape {input_ids.shape} the graph returned shape {probabilities.shape}; expected "
                f"{(len(input_ids), self.num_labels)}. {EXPORT_AGAIN}"
            )
        if not np.isfinite(probabilities).all():
            raise NonFiniteScore(
                f"on a batch of shape {input_ids.shape} the model returned NaN or infinity. {EXPORT_AGAIN}"
            )
        return np.asarray(probabilities, dtype=np.float32)

    def check_process(self) -> None:
        """Raise an error in a forked process, where onnxruntime may hang.

        Raises:
            ForkedProcess: The session was created in another process.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess(
                f"this classifier was loaded by process {self._pid} and is used in process {os.getpid()}: onnxruntime "
                "does not survive a fork. Load it in each worker, or pickle it, which loads it again from its folder."
            )

    def _check_graph(self) -> int:
        """Check the graph's inputs and outputs, and return the number of columns of `probabilities`."""
        if "input_ids" not in self.inputs or set(self.inputs) - set(INPUTS):
            raise BundleError(
                f"the graph has the inputs {', '.join(self.inputs)}; expected input_ids and at most attention_mask and "
                "token_type_ids. Make the bundle with manylabel export."
            )
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        shape = shapes.get("probabilities", [])
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise BundleError(
                f"the graph has the outputs {shapes}; expected probabilities of shape (batch, number of labels). "
                "Make the bundle with manylabel export."
            )
        return shape[1]


def _feeds(inputs: Container[str], input_ids: TokenIds) -> dict[str, TokenIds]:
    """Return a graph's inputs for a batch without padding."""
    feeds = {"input_ids": input_ids}
    if "attention_mask" in inputs:
        feeds["attention_mask"] = np.ones_like(input_ids)
    if "token_type_ids" in inputs:
        feeds["token_type_ids"] = np.zeros_like(input_ids)
    return feeds


def _open(
    ort: ModuleType,
    model: bytes | str,
    device: Literal["cpu", "cuda"],
    provider_options: Mapping[str, str],
    *,
    optimized: bool,
    weights: Mapping[str, bytes | NDArray[np.uint8]],
    threads: int,
) -> Any:
    """Return an InferenceSession on the requested device, or raise an error."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # otherwise a core stays busy after a call
    options.enable_mem_pattern = False  # it keeps a plan per shape: memory would grow with every new length
    options.log_severity_level = 3
    exactness: dict[str, Any] = {}
    if optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if device == "cpu" and int8_saturates(ort):  # the exact int8 mode is one of the extended optimisations
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.x64quantprecision", "1")
            # these would sum the classifier in another order, and be slower
            exactness["disabled_optimizers"] = ["MatmulTransposeFusion", "BiasGeluFusion"]
    # With a table, even an empty one, onnxruntime looks for a graph's external data there and nowhere else.
    names, contents = zip(*(weights or {"": b""}).items(), strict=True)
    options.add_external_initializers_from_files_in_memory(names, contents, [len(content) for content in contents])
    providers: list[Any] = list(dict.fromkeys((PROVIDERS[device], PROVIDERS["cpu"])))  # CPU for what CUDA lacks
    if provider_options:
        providers[0] = (providers[0], provider_options)
    try:
        # enable_fallback=0: otherwise a CUDA error is printed, and the session continues on the CPU.
        session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0, **exactness)
    except Exception as exc:  # as above
        raise _translate(exc, f"onnxruntime {ort.__version__} does not load the graph", device) from exc
    if session.get_providers()[0] != PROVIDERS[device]:  # it dropped CUDA with no more than a line in its log
        raise DeviceUnavailable(
            f"CUDA was requested and onnxruntime-gpu {ort.__version__} supports it, but it did not start: no NVIDIA "
            "GPU, no driver, or no CUDA libraries. Check nvidia-smi, then pip install "
            '"onnxruntime-gpu[cuda,cudnn]"; or choose device="cpu".'
        )
    return session


def _translate(exc: Exception, what: str, device: str) -> ManylabelError:
    """Return our error for one of onnxruntime's, which can be distinguished only by their messages."""
    if isinstance(exc, MemoryError) or mentions_out_of_memory(str(exc)):
        advice = memory_advice() if device == "cpu" else "Free GPU memory (nvidia-smi lists the processes that use it)."
        return OutOfMemory(f"{what}: {first_line(exc)}. {advice}")
    if device == "cuda" and "graph capture" in str(exc):
        return DeviceUnavailable(f"{what}: {first_line(exc)}. {WITHOUT_CUDA_GRAPHS}")
    if device == "cuda" and "CUDA" in str(exc):
        return DeviceUnavailable(f'{what}: {first_line(exc)}. Check nvidia-smi, or choose device="cpu".')
    return BundleError(f"{what}: {first_line(exc)}")
