"""Load ONNX Runtime, choose a device, and find out what the processor computes exactly.

This module and `ort_session` are the only ones that know `onnxruntime`.
"""

import os
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from manylabel.errors import DeviceUnavailable, MissingDependency
from manylabel.system.resource_errors import memory_for_import

# onnxruntime's Linux builds keep a device ID and a database of events under ~/.cache/Microsoft (seen with 1.32), to
# send to Microsoft (its Privacy.md). Off, unless the user has set it; it is read only before the first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Device = Literal["auto", "cpu", "cuda"]
PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""ONNX Runtime's execution provider of each device."""

ORT_MEGABYTES = 64
"""Address space that loading onnxruntime takes: 43 MB with 1.32, in addition to numpy and tokenizers; with less it
crashes."""

INSTALL_GPU = 'pip uninstall onnxruntime && pip install "manylabel[gpu]"'

# A graph of one MatMulInteger: a (uint8) times b (int8), int32 out; test_ort_loader.py checks what it computes.
MATMUL_INTEGER = (
    b'\x08\x08:>\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\t\n\x01a\x12\x04\n\x02\x08\x02'
    b"Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\r"
)
ROWS, DEPTH, COLUMNS = 8, 64, 32


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime.

    Raises:
        MissingDependency: It is not installed, broken, or installed in both of its builds.
        OutOfMemory: There is not enough memory to load it.

    Example:
        >>> load_onnxruntime().__name__
        'onnxruntime'
    """
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        raise MissingDependency(
            "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files. "
            'pip uninstall onnxruntime onnxruntime-gpu, then pip install "manylabel[gpu]" or "manylabel[cpu]"'
        )
    try:
        with memory_for_import("onnxruntime", ORT_MEGABYTES):
            import onnxruntime
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            f'{exc.name} is not installed. pip install "manylabel[cpu]", or "manylabel[gpu]" for NVIDIA GPUs'
        ) from exc
    except ImportError as exc:
        raise _broken(str(exc).strip().split("\n")[0]) from exc
    if not hasattr(onnxruntime, "InferenceSession"):  # what is left after one of two builds was uninstalled
        raise _broken("its files are incomplete")
    return onnxruntime  # type: ignore[no-any-return]  # untyped


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Return the device to run on: `"auto"` is CUDA if this onnxruntime supports it and there is a GPU, else the CPU.

    Raises:
        MissingDependency: onnxruntime is not installed, or installed in both of its builds.
        DeviceUnavailable: The name is unknown.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    if device == "cpu" or device == "cuda":
        return device
    if device != "auto":
        raise DeviceUnavailable(f"there is no device {device!r}. Choose auto, cpu or cuda.")
    available = load_onnxruntime().get_available_providers()
    return "cuda" if PROVIDERS["cuda"] in available and has_gpu() else "cpu"


def check_device(ort: ModuleType, device: Literal["cpu", "cuda"]) -> None:
    """Raise an error if this onnxruntime does not support a device; load CUDA's libraries if it does.

    Raises:
        DeviceUnavailable: The device is not supported.

    Example:
        >>> check_device(load_onnxruntime(), "cpu")
    """
    available = ort.get_available_providers()
    if PROVIDERS[device] not in available:
        raise DeviceUnavailable(
            f"{device.upper()} was requested, but this onnxruntime supports only {', '.join(available)}. {INSTALL_GPU}"
        )
    if device == "cuda":
        with redirect_stdout(sys.stderr):  # it prints which libraries are missing; standard output is for results
            ort.preload_dlls()  # finds CUDA and cuDNN where pip installed them


def has_gpu() -> bool:
    """Return whether the driver of an NVIDIA GPU is loaded.

    Example:
        >>> has_gpu() in (True, False)
        True
    """
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")  # native, or under WSL


@cache
def int8_saturates(ort: Any) -> bool:
    """Return whether int8 MatMuls are inexact on this processor, by running one. Takes 3 ms, once per process.

    Before VNNI, x86 multiplies unsigned by signed bytes and adds pairs of products in 16 bits, which saturate:
    255 * 127 * 2 is twice what fits. int8 graphs would silently give other scores there. ONNX Runtime has a slower
    exact mode for such processors, enabled by the session option `session.x64quantprecision` on any processor.

    Args:
        ort: The module onnxruntime.

    Example:
        >>> int8_saturates(load_onnxruntime()) in (True, False)
        True
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(MATMUL_INTEGER, options, providers=["CPUExecutionProvider"])
    largest = {"a": np.full((ROWS, DEPTH), 255, np.uint8), "b": np.full((DEPTH, COLUMNS), 127, np.int8)}
    (result,) = session.run(None, largest)
    return bool((result != 255 * 127 * DEPTH).any())


def _is_installed(name: str) -> bool:
    """Return whether a distribution's metadata folder exists. Importing importlib.metadata took 8 % of a start."""
    pattern = f"{name.replace('-', '_')}-*.dist-info"
    return any(any(Path(folder).glob(pattern)) for folder in sys.path)


def _broken(reason: str) -> MissingDependency:
    return MissingDependency(
        f"onnxruntime is installed but cannot be used: {reason}. "
        'pip uninstall onnxruntime onnxruntime-gpu, then pip install "manylabel[cpu]" or "manylabel[gpu]"'
    )
