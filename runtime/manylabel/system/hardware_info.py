"""The machine: processor, instruction sets, the cores that this process may use, and installed versions."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CGROUPS = Path("/sys/fs/cgroup")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")
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
"""Packages whose versions are recorded with a measurement."""

FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "sve", "bf16"),
)
"""Instruction sets of x86 and Arm that decide which kernels ONNX Runtime uses."""

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""Those that multiply and add int8 in one instruction: three of x86 and one of Arm."""


@dataclass(frozen=True)
class Machine:
    """A processor, and the versions of the packages that matter to it.

    Attributes:
        cpu: The processor's name, if the system reports it.
        architecture: Such as `x86_64`.
        flags: The instruction sets among `FLAGS` that it has.
        cores: The number of cores available to this process.
        python: The version of Python.
        versions: By package.

    Example:
        >>> machine = Machine("EPYC", "x86_64", ("avx2",), cores=2, python="3.12.4", versions={"numpy": "2.1.0"})
        >>> str(machine)
        'EPYC (avx2), Python 3.12.4, numpy 2.1.0'
    """

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    python: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        name = self.cpu or self.architecture
        packages = ", ".join(f"{package} {version}" for package, version in self.versions.items())
        return f"{name} ({', '.join(self.flags) or 'instruction sets unknown'}), Python {self.python}, {packages}"


def this_machine(cpuinfo: Path = CPUINFO) -> Machine:
    """Return the machine that this process runs on.

    Args:
        cpuinfo: Linux's list of processors.

    Example:
        >>> this_machine().cores >= 1
        True
    """
    import platform  # imported here because predicting does not need it

    fields = _cpuinfo_fields(cpuinfo)
    present = cpu_flags(cpuinfo)
    return Machine(
        cpu=fields.get("model name", platform.processor()),
        architecture=platform.machine(),
        flags=tuple(flag for flag in FLAGS if flag in present),
        cores=available_cores(),
        python=platform.python_version(),
        versions={name: version for name in PACKAGES if (version := installed_version(name))},
    )


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the processor's instruction sets by their Linux names; empty if the system does not report them.

    Example:
        >>> "no such flag" in cpu_flags()
        False
    """
    fields = _cpuinfo_fields(cpuinfo)
    return frozenset(fields.get("flags", fields.get("Features", "")).split())


def core_clocks(cpuinfo: Path = CPUINFO) -> list[int]:
    """Return the current clock of each core in MHz; empty if the system does not report it.

    Example:
        >>> all(clock > 0 for clock in core_clocks())
        True
    """
    return [round(float(clock)) for clock in re.findall(r"^cpu MHz\s*: (.*)$", _read(cpuinfo), re.MULTILINE)]


def installed_version(package: str) -> str:
    """Return the version of an installed package; "" if it is not installed.

    Example:
        >>> installed_version("no-such-package")
        ''
    """
    from importlib.metadata import PackageNotFoundError, version  # a tenth of a start

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def available_cores(cgroups: Path = CGROUPS, membership: Path = CGROUP_MEMBERSHIP) -> int:
    """Return the number of cores that this process may use: its affinity, limited by its CPU quota; at least 1.

    Args:
        cgroups: Where control groups are mounted, version 2 or 1.
        membership: Lists the control groups of the process.

    Example:
        >>> 1 <= available_cores() <= cpu_affinity()
        True
    """
    quota = cpu_quota(cgroups, membership)
    return cpu_affinity() if quota is None else max(1, min(cpu_affinity(), int(quota + 0.5)))


def cpu_affinity() -> int:
    """Return the number of cores that this process may be scheduled on, without regard to a quota.

    Example:
        >>> cpu_affinity() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = CGROUP_MEMBERSHIP) -> float | None:
    """Return the CPU time that this process's control groups allow, in cores; None if there is no quota.

    Args:
        cgroups: Where control groups are mounted, version 2 or 1.
        membership: Lists the control groups of the process.

    Example:
        >>> quota = cpu_quota()
        >>> quota is None or quota > 0
        True
    """
    quotas = (_quota_of(group) for group in _control_groups(cgroups, membership))
    return min((quota for quota in quotas if quota is not None), default=None)


def _control_groups(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of their parents, each of which may have a quota.

    In a container the root is the container's own group; under systemd a service has a group further down.
    """
    yield from (cgroups, cgroups / "cpu")
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers or "cpu" in controllers.split(","):  # version 2, or 1
            mount, group = cgroups / ("cpu" if controllers else ""), Path(name.lstrip("/"))
            yield from (mount / part for part in (group, *group.parents))


def _quota_of(group: Path) -> float | None:
    """Return the quota that a control group sets, in cores, or None."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def _cpuinfo_fields(cpuinfo: Path) -> dict[str, str]:
    """Return the fields of the last processor in the list."""
    pairs = (line.split(":", 1) for line in _read(cpuinfo).splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _read(cpuinfo: Path) -> str:
    return cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
