"""What the machine grants this process: cores, and the instructions that int8 is fast by."""

import os
import platform
from pathlib import Path

from manylabel.doctor.finding import Finding
from manylabel.system.cpu_quota import affinity, available_cores, cpu_quota

CPUINFO = Path("/proc/cpuinfo")
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""Flags of CPUs that multiply and add int8 in one instruction: of x86, and the last of Arm."""


def look() -> list[Finding]:
    """Cores and instructions."""
    return [_threads(), _instructions(CPUINFO)]


def _threads() -> Finding:
    used, granted, quota, machine = available_cores(), affinity(), cpu_quota(), os.cpu_count() or 1
    bound = "no quota" if quota is None else f"a quota of {quota:g}"
    says = f"{used} used by default: {granted} of the machine's {machine} cores granted, {bound}"
    details = {"used": used, "affinity": granted, "quota": quota, "machine": machine}
    if quota is not None and quota < 1:
        return Finding("threads", "note", f"{says}. Below 1, every answer waits for its turn.", details=details)
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("1", "true", "on", "yes"):
        said = f"{says}. TOKENIZERS_PARALLELISM makes the tokenizer start a thread for each of {machine} cores besides."
        return Finding("threads", "note", said, "unset TOKENIZERS_PARALLELISM", details)
    return Finding("threads", "ok", says, details=details)


def _instructions(cpuinfo: Path) -> Finding:
    words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split()) if cpuinfo.exists() else set()
    found = [flag for flag in DOT_PRODUCTS if flag in words]
    details = {"machine": platform.machine(), "dot_products": found}
    if found or not words:
        return Finding("int8", "ok", ", ".join(found) or "what this CPU has for it is not known here", details=details)
    says = f"this CPU has none of {', '.join(DOT_PRODUCTS)}: int8 gains little here. Measure it beside fp32."
    return Finding("int8", "note", says, details=details)
