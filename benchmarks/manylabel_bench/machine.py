"""What a result was measured on."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from manylabel.cores import available_cores

PACKAGES = (
    "manylabel",
    "onnxruntime",
    "onnxruntime-gpu",
    "tokenizers",
    "numpy",
    "torch",
    "transformers",
    "optimum-onnx",
    "openvino",
    "nncf",
    "sentence-transformers",
)
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """The CPU with the instruction sets that matter here, cores, clock, load and versions."""
    return {
        "cpu": _field("model name") or platform.processor(),
        "flags": [flag for flag in FLAGS if has_flag(flag)],
        "cores": available_cores(),
        "mhz": [round(float(each)) for each in re.findall(r"^cpu MHz\s*: (.*)$", _cpuinfo(), re.MULTILINE)],
        "load_1min": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def has_flag(name: str) -> bool:
    """Whether the CPU has an instruction set, by Linux' name for it."""
    return name in _field("flags").split()


def _field(name: str) -> str:
    found = re.search(rf"^{name}\s*: (.*)$", _cpuinfo(), re.MULTILINE)
    return found[1] if found else ""


def _cpuinfo() -> str:
    return CPUINFO.read_text() if CPUINFO.exists() else ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
