"""One graph in ONNX Runtime: the one place that knows `onnxruntime`.

The session knows nothing of text, labels or folders: bytes and options in, arrays out.
"""

import os
import sys
from collections.abc import Container, Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import (
    BundleError,
    DeviceUnavailable,
    ForkedProcess,
    ManylabelError,
    MissingDependency,
    NonFiniteScore,
    OutOfMemory,
)
from manylabel.inference.cuda_graphs import PROVIDER_OPTIONS, Recordings
from manylabel.inference.oom_retry import in_halves
from manylabel.inference.vnni_check import saturates
from manylabel.system.resource_errors import loading, more_memory, says_no_memory

# onnxruntime's Linux builds keep a device ID and a data base of events under ~/.cache/Microsoft (seen with 1.32), to
# send to Microsoft (its Privacy.md). Off, unless the user says otherwise; it is heard before the first import only.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Device = Literal["auto", "cpu", "cuda"]
PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ROOM = 64
"""MB that onnxruntime takes when it is loaded: 43 with 1.32, beside numpy and tokenizers; with less it crashes."""
UNRECORDED = "Load the bundle with cuda_graphs=False."
INSTALL_GPU = 'pip uninstall onnxruntime && pip install "manylabel[gpu]"'


class Session:
    """A graph that takes token ids and gives probabilities. May be called from several threads at once.

    A call computes on the thread that makes it, unless `threads` says otherwise: one call per core at a time uses all
    cores, holds the weights once and leaves no pool that spins while idle.

    Args:
        model: The serialized graph, or a path to it, which takes less memory. Of its inputs it is fed what it declares:
            `input_ids`, `attention_mask`, `token_type_ids`.
        device: `"cpu"` or `"cuda"`. What was asked for is what runs.
        optimized: The graph comes fused; load it as it is. onnxruntime would fuse on CPU what is faster apart.
        weights: Of files that the graph names, their bytes. No file is opened: a graph that names another is refused.
        threads: That share a call on the CPU, the caller's among them. They spin for work within a call, not between
            calls.
        recorded: Tokens of a text that CUDA answers from a recording at most; 0 for none. Recordings are made here and
            tried.

    Raises:
        MissingDependency: onnxruntime is absent, or both of its builds are installed.
        DeviceUnavailable: The device cannot run here, or not from recordings.
        BundleError: onnxruntime does not load the graph, or it is none that gives probabilities.
    """

    def __init__(
        self,
        model: bytes | str,
        *,
        device: Literal["cpu", "cuda"],
        optimized: bool = False,
        weights: Mapping[str, bytes | NDArray[np.uint8]] = MappingProxyType({}),
        threads: int = 1,
        recorded: int = 0,
    ) -> None:
        ort = load_onnxruntime()
        check_device(ort, device)
        more = PROVIDER_OPTIONS if recorded else {}
        self._session = _open(ort, model, device, more, optimized=optimized, weights=weights, threads=threads)
        self.inputs = [argument.name for argument in self._session.get_inputs()]
        self._pid = os.getpid()
        self.num_labels = self._check_graph()
        self.device = device
        self._recordings: Recordings | None = None
        if recorded:
            self._recordings = Recordings(ort, self._session, partial(_feeds, self.inputs))
            try:
                self._recordings.record(recorded)
            except Exception as exc:  # as in _run
                raise DeviceUnavailable(f"a CUDA graph fails: {_first_line(exc).rstrip('.')}. {UNRECORDED}") from exc

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probabilities of a batch without padding.

        Args:
            input_ids: Shape `(batch, sequence)`.

        Returns:
            Shape `(batch, num_labels)`.

        Raises:
            ForkedProcess: The session was made in another process.
            BundleError: The graph fails, or gives something else than probabilities.
            NonFiniteScore: A probability is no number.
            OutOfMemory: The batch does not fit into the device's memory, not even in small parts.
        """
        self.check_process()
        return in_halves(self._run, input_ids)

    def _run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            if self._recordings:
                probabilities = self._recordings.run(input_ids)
            else:
                (probabilities,) = self._session.run(["probabilities"], _feeds(self.inputs, input_ids))
        except Exception as exc:  # onnxruntime's exceptions share no base but Exception
            raise _fault(exc, f"the graph failed on a batch of shape {input_ids.shape}", self.device) from exc
        if probabilities.shape != (len(input_ids), self.num_labels):
            raise BundleError(
                f"on a batch of shape {input_ids.shape} the graph gave shape {probabilities.shape}; expected "
                f"{(len(input_ids), self.num_labels)}. Export the checkpoint anew."
            )
        if not np.isfinite(probabilities).all():
            raise NonFiniteScore(
                f"on a batch of shape {input_ids.shape} the graph gave a probability that is no number. "
                "Export the checkpoint anew."
            )
        return np.asarray(probabilities, dtype=np.float32)

    def check_process(self) -> None:
        """Refuse to go on in a forked process, where onnxruntime may hang.

        Raises:
            ForkedProcess: The session was made in another process.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess(
                f"this classifier was loaded by process {self._pid} and is used in process {os.getpid()}: onnxruntime "
                "does not survive a fork. Load it in each worker, or pickle it, which loads it again from its folder."
            )

    def _check_graph(self) -> int:
        """The number of columns of `probabilities`, once the graph is found to be one that we can feed."""
        if "input_ids" not in self.inputs or set(self.inputs) - set(INPUTS):
            raise BundleError(
                f"the graph takes {', '.join(self.inputs)}; expected input_ids and at most attention_mask and "
                "token_type_ids. Make the bundle with manylabel export."
            )
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        shape = shapes.get("probabilities", [])
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise BundleError(
                f"the graph gives {shapes}; expected probabilities of shape (batch, number of labels). "
                "Make the bundle with manylabel export."
            )
        return shape[1]


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """What to run on: `auto` takes CUDA where this onnxruntime offers it and there is a GPU, else the CPU.

    Raises:
        MissingDependency: onnxruntime is absent, or both of its builds are installed.
        DeviceUnavailable: The name is unknown.
    """
    if device == "cpu" or device == "cuda":
        return device
    if device != "auto":
        raise DeviceUnavailable(f"there is no device {device!r}. Choose auto, cpu or cuda.")
    offered = load_onnxruntime().get_available_providers()
    return "cuda" if PROVIDERS["cuda"] in offered and has_gpu() else "cpu"


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime.

    Raises:
        MissingDependency: It is absent or broken, or both of its builds are installed.
        OutOfMemory: There is no room for it.
    """
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        raise MissingDependency(
            "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files. "
            'pip uninstall onnxruntime onnxruntime-gpu, then pip install "manylabel[gpu]" or "manylabel[cpu]"'
        )
    try:
        with loading("onnxruntime", ROOM):
            import onnxruntime
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            f'{exc.name} is not installed. pip install "manylabel[cpu]", or "manylabel[gpu]" for NVIDIA GPUs'
        ) from exc
    except ImportError as exc:
        raise _broken(_first_line(exc)) from exc
    if not hasattr(onnxruntime, "InferenceSession"):  # what is left once one of two builds was uninstalled
        raise _broken("its files are incomplete")
    return onnxruntime  # type: ignore[no-any-return]  # untyped


def check_device(ort: ModuleType, device: Literal["cpu", "cuda"]) -> None:
    """Refuse a device that this onnxruntime does not offer; load CUDA's libraries where it does.

    Raises:
        DeviceUnavailable: It is not offered.
    """
    offered = ort.get_available_providers()
    if PROVIDERS[device] not in offered:
        raise DeviceUnavailable(
            f"{device.upper()} was asked for, but this onnxruntime offers {', '.join(offered)} only. {INSTALL_GPU}"
        )
    if device == "cuda":
        with redirect_stdout(sys.stderr):  # standard output is for answers; it prints what it does not find
            ort.preload_dlls()  # finds CUDA and cuDNN where pip put them


def _feeds(inputs: Container[str], input_ids: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """What a graph takes of a batch without padding."""
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
    """An InferenceSession that runs where it was asked to, or an error."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else a core is busy after a call
    options.enable_mem_pattern = False  # it keeps a plan a shape: memory would grow with every new length
    options.log_severity_level = 3
    exactly: dict[str, Any] = {}
    if optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if device == "cpu" and saturates(ort):  # what makes int8 exact is one of the extended optimisations
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.x64quantprecision", "1")
            # which would sum the classifier in another order, and be slower
            exactly["disabled_optimizers"] = ["MatmulTransposeFusion", "BiasGeluFusion"]
    # With a table, if an empty one, onnxruntime looks for a graph's external data there and nowhere else.
    names, contents = zip(*(weights or {"": b""}).items(), strict=True)
    options.add_external_initializers_from_files_in_memory(names, contents, [len(content) for content in contents])
    providers: list[Any] = list(dict.fromkeys((PROVIDERS[device], PROVIDERS["cpu"])))  # what CUDA lacks runs on the CPU
    if provider_options:
        providers[0] = (providers[0], provider_options)
    try:
        # enable_fallback: else a CUDA fault is printed, and the session goes on on the CPU.
        session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0, **exactly)
    except Exception as exc:  # as above
        raise _fault(exc, f"onnxruntime {ort.__version__} does not load the graph", device) from exc
    if session.get_providers()[0] != PROVIDERS[device]:  # it left CUDA out, with no more than a line in its log
        raise DeviceUnavailable(
            f"CUDA was asked for and onnxruntime-gpu {ort.__version__} offers it, but it did not start: no NVIDIA GPU, "
            'no driver, or no CUDA libraries. Check nvidia-smi, then pip install "onnxruntime-gpu[cuda,cudnn]"; or '
            'choose device="cpu".'
        )
    return session


def has_gpu() -> bool:
    """Whether the driver of an NVIDIA GPU is here."""
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")  # native, or under WSL


def _installed(name: str) -> bool:
    """By its folder of metadata. To ask importlib.metadata, and so import it, took 8 % of a start."""
    pattern = f"{name.replace('-', '_')}-*.dist-info"
    return any(any(Path(folder).glob(pattern)) for folder in sys.path)


def _broken(why: str) -> MissingDependency:
    return MissingDependency(
        f"onnxruntime is installed but cannot be used: {why}. "
        'pip uninstall onnxruntime onnxruntime-gpu, then pip install "manylabel[cpu]" or "manylabel[gpu]"'
    )


def _fault(exc: Exception, what: str, device: str) -> ManylabelError:
    """The memory's fault, the device's, or else the bundle's: onnxruntime has no kinds of exceptions to tell by."""
    if isinstance(exc, MemoryError) or says_no_memory(str(exc)):
        more = more_memory() if device == "cpu" else "Free memory of the GPU (nvidia-smi shows who has it)."
        return OutOfMemory(f"{what}: {_first_line(exc)}. {more}")
    if device == "cuda" and "graph capture" in str(exc):
        return DeviceUnavailable(f"{what}: {_first_line(exc)}. {UNRECORDED}")
    if device == "cuda" and "CUDA" in str(exc):
        return DeviceUnavailable(f'{what}: {_first_line(exc)}. Check nvidia-smi, or choose device="cpu".')
    return BundleError(f"{what}: {_first_line(exc)}")


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().split("\n")[0]
