"""What a figure was measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manylabel.system.cpu_quota import available_cores

CPUINFO = Path("/proc/cpuinfo")
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
    "onnx",
)
FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "sve", "bf16"),
)
"""Instruction sets that decide which kernels ONNX Runtime takes, of x86 and of Arm."""


@dataclass(frozen=True)
class Machine:
    """A processor and what is installed beside it.

    Attributes:
        cpu: Its name, where the system tells it.
        architecture: Such as `x86_64`.
        flags: Those of `FLAGS` that it has.
        cores: How many are granted to this process.
        python: The version.
        versions: By package.
    """

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    python: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        name = self.cpu or self.architecture
        packages = ", ".join(f"{package} {found}" for package, found in self.versions.items())
        return f"{name} ({', '.join(self.flags) or 'instruction sets not known'}), Python {self.python}, {packages}"


def this_machine(cpuinfo: Path = CPUINFO) -> Machine:
    """The one that this process runs on.

    Args:
        cpuinfo: Where Linux tells of its processors.
    """
    import platform  # here: an answer asks for none of it

    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in pairs}
    present = fields.get("flags", fields.get("Features", "")).split()
    return Machine(
        cpu=fields.get("model name", platform.processor()),
        architecture=platform.machine(),
        flags=tuple(flag for flag in FLAGS if flag in present),
        cores=available_cores(),
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name))},
    )


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # a tenth of a start

    try:
        return version(name)
    except PackageNotFoundError:
        return ""
