"""The environment: installed packages, CPU cores and the CPU's int8 instructions, as findings."""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires
from typing import Any, Literal

from manylabel import __version__
from manylabel.system.hardware_info import (
    INT8_FLAGS,
    available_cores,
    cpu_affinity,
    cpu_flags,
    cpu_quota,
    installed_version,
)

DISTRIBUTION = "manylabel"
IGNORED_EXTRAS = ("cpu", "gpu", "bench", "clients", "demo", "dev", "rivals")
"""Extras without a finding: onnxruntime has findings of its own, the others are for the development of manylabel."""

Status = Literal["ok", "note", "fault"]

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=([\d.]+))?[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked.
        status: `"ok"`; `"note"` for what works but should be known; `"fault"` for what prevents predictions.
        says: A sentence for the reader.
        next: The next command to run, if there is one.
        details: Figures for the JSON output.
    """

    name: str
    status: Status
    says: str
    next: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Requirement:
    """A package that manylabel or one of its extras requires.

    Attributes:
        name: The package's name.
        minimum: The lowest supported version; empty for any.
        extra: The extra that requires it; empty if it is always required.
    """

    name: str
    minimum: str
    extra: str

    @property
    def outdated(self) -> str:
        """A sentence if the installed version is too old; empty if it is not, or if the package is not installed."""
        installed = installed_version(self.name)
        if installed and _parse_version(installed) < _parse_version(self.minimum):
            return f"{self.name} {installed} is older than {self.minimum}"
        return ""


def check_environment() -> list[Finding]:
    """Check Python, manylabel with its requirements and extras, the CPU cores and the int8 instructions."""
    requirements = read_requirements()
    extras = dict.fromkeys(each.extra for each in requirements if each.extra and each.extra not in IGNORED_EXTRAS)
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _check_base([each for each in requirements if not each.extra]),
        _check_extras({extra: [each for each in requirements if each.extra == extra] for extra in extras}),
        _check_threads(),
        _check_instructions(),
    ]


def read_requirements() -> list[Requirement]:
    """Return the requirements in manylabel's own metadata; none if it is not installed."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        lines = []
    matches = (_REQUIREMENT.fullmatch(line.strip()) for line in lines)
    return [Requirement(match[1], match[2] or "", match[3] or "") for match in matches if match]


def _check_base(requirements: list[Requirement]) -> Finding:
    if not requirements:
        return Finding(
            DISTRIBUTION, "note", f"{__version__}, run from its source and not installed: versions are not checked"
        )
    versions = {each.name: installed_version(each.name) for each in requirements}
    details = {"version": __version__, "packages": versions}
    missing = [f"{name} is missing" for name, installed in versions.items() if not installed]
    faults = [*_outdated(requirements), *missing]
    if faults:
        upgrade = f"pip install --upgrade {DISTRIBUTION}"
        return Finding(DISTRIBUTION, "fault", f"{__version__}; {', '.join(faults)}.", upgrade, details)
    packages = ", ".join(f"{name} {installed}" for name, installed in versions.items())
    return Finding(DISTRIBUTION, "ok", f"{__version__} with {packages}", details=details)


def _check_extras(extras: dict[str, list[Requirement]]) -> Finding:
    """Check which extras are complete. Predictions need none of them, so a missing extra is not a fault."""
    complete = [extra for extra, needed in extras.items() if all(installed_version(each.name) for each in needed)]
    missing = [extra for extra in extras if extra not in complete]
    says = f"installed: {', '.join(complete) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    details = {"here": complete, "not_here": missing}
    if faults := [fault for extra in complete for fault in _outdated(extras[extra])]:
        upgrade = f'pip install --upgrade "{DISTRIBUTION}[{",".join(complete)}]"'
        return Finding("extras", "note", f"{says}; {', '.join(dict.fromkeys(faults))}", upgrade, details)
    return Finding("extras", "ok", says, details=details)


def _outdated(requirements: list[Requirement]) -> Iterator[str]:
    return (each.outdated for each in requirements if each.outdated)


def _parse_version(text: str) -> tuple[int, ...]:
    """Return the release numbers of a version, such as (1, 30, 1).

    This is all that is compared, and `packaging` is not a dependency of the runtime.
    """
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def _check_threads() -> Finding:
    used, granted, quota, machine = available_cores(), cpu_affinity(), cpu_quota(), os.cpu_count() or 1
    limit = "no quota" if quota is None else f"a quota of {quota:g}"
    says = f"{used} used by default: this process may run on {granted} of {machine} cores, with {limit}"
    details = {"used": used, "affinity": granted, "quota": quota, "machine": machine}
    if quota is not None and quota < 1:
        return Finding("threads", "note", f"{says}. With less than one core, every text has to wait.", details=details)
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("1", "true", "on", "yes"):
        says += f". TOKENIZERS_PARALLELISM makes the tokenizer start {machine} threads of its own."
        return Finding("threads", "note", says, "unset TOKENIZERS_PARALLELISM", details)
    return Finding("threads", "ok", says, details=details)


def _check_instructions() -> Finding:
    flags = cpu_flags()
    present = [flag for flag in INT8_FLAGS if flag in flags]
    details = {"machine": platform.machine(), "dot_products": present}
    if present or not flags:
        says = ", ".join(present) or "the CPU's instructions are not known on this system"
        return Finding("int8", "ok", says, details=details)
    says = f"this CPU has none of {', '.join(INT8_FLAGS)}: int8 gains little here. Compare it with fp32."
    return Finding("int8", "note", says, details=details)
