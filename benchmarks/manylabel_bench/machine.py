"""What a result was measured on."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from manylabel.cores import available_cores

PACKAGES = (
    "manylabel",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-extensions",
    "tokenizers",
    "numpy",
    "torch",
    "transformers",
    "optimum-onnx",
)
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")


def describe() -> dict[str, Any]:
    """The CPU with the instruction sets that matter here, cores, load and versions."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "cpu": named.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in named.get("flags", "").split()],
        "cores": available_cores(),
        "load_1min": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
