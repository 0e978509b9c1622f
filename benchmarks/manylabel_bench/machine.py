"""What a result was measured on."""

import os
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from manylabel.system.hardware_info import CPUINFO, this_machine

RIVALS = ("openvino", "nncf", "sentence-transformers")


def describe() -> dict[str, Any]:
    """The machine with its load and clock, and what else is measured on it."""
    found = asdict(this_machine())
    return found | {
        "flags": list(found["flags"]),
        "mhz": _clocks(),
        "load_1min": os.getloadavg()[0],
        "versions": {**found["versions"], **{name: its for name in RIVALS if (its := _version(name))}},
    }


def has_flag(name: str) -> bool:
    """Whether the CPU has an instruction set, by Linux' name for it."""
    return name in this_machine().flags


def _clocks() -> list[int]:
    """MHz of each core at this moment, where the system tells."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""
    return [round(float(each)) for each in re.findall(r"^cpu MHz\s*: (.*)$", text, re.MULTILINE)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
