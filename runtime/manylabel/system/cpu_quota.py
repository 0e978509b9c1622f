"""How many cores this process may use: affinity and the quota of its control groups, not what the machine has."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def available_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Cores by affinity, bounded by the CPU quota of this process's control groups; at least 1.

    Args:
        cgroups: Where control groups are mounted, version 2 or 1.
        membership: Names the groups that the process is in.
    """
    quota = cpu_quota(cgroups, membership)
    return affinity() if quota is None else max(1, min(affinity(), int(quota + 0.5)))


def affinity() -> int:
    """Cores that this process may run on, whatever its quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Cores' worth of time that this process's control groups grant, the least of them; None where there is no limit.

    Args:
        cgroups: Where control groups are mounted, version 2 or 1.
        membership: Names the groups that the process is in.
    """
    return min((quota for group in _groups(cgroups, membership) if (quota := _quota(group)) is not None), default=None)


def _groups(cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of those above, each of which may hold a quota.

    In a container the root is the container's own group; under systemd a service lies further down.
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


def _quota(group: Path) -> float | None:
    """Cores' worth of time that a group is granted, or None where it sets no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None
