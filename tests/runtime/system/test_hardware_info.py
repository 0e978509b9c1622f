"""A process uses the cores that are available to it, not all of the machine's."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from manylabel.system.hardware_info import available_cores, core_clocks, cpu_flags, this_machine

AFFINITY = 8


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(AFFINITY)))


def groups(folder: Path, files: Mapping[str, str], membership: str = "0::/\n") -> int:
    """Return the available cores of a process whose control groups have these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "membership").write_text(membership)
    return available_cores(folder, folder / "membership")


def test_affinity_limits_cores_without_quota(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "absent", tmp_path / "absent") == AFFINITY


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", 8),
        ("400000 100000\n", 4),
        ("150000 100000\n", 2),
        ("140000 100000\n", 1),
        ("10000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("50000 25000\n", 2),
        ("nonsense\n", 8),
        ("1 2 3\n", 8),
        ("100000 0\n", 8),
        ("", 8),
    ],
)
def test_cgroup_v2_quota_limits_cores(tmp_path: Path, content: str, cores: int) -> None:
    assert groups(tmp_path, {"cpu.max": content}) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("-1\n", "100000\n", 8), ("200000\n", "100000\n", 2), ("50000\n", "100000\n", 1), ("x", "y", 8)],
)
def test_cgroup_v1_quota_limits_cores(tmp_path: Path, quota: str, period: str, cores: int) -> None:
    assert groups(tmp_path, {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}) == cores


def test_cgroup_v1_quota_without_period_is_ignored(tmp_path: Path) -> None:
    assert groups(tmp_path, {"cpu/cpu.cfs_quota_us": "100000"}) == AFFINITY


def test_smallest_quota_of_parent_groups_applies(tmp_path: Path) -> None:
    """Under systemd a service has a group below the root."""
    files = {
        "system.slice/cpu.max": "300000 100000",
        "system.slice/answer.service/cpu.max": "max 100000",
        "other.slice/cpu.max": "100000 100000",
    }
    assert groups(tmp_path, files, "0::/system.slice/answer.service\n") == 3


def test_cgroup_v1_group_is_found_by_controller(tmp_path: Path) -> None:
    files = {
        "cpu/docker/cpu.cfs_quota_us": "200000",
        "cpu/docker/cpu.cfs_period_us": "100000",
        "cpu/memory/cpu.cfs_quota_us": "100000",
        "cpu/memory/cpu.cfs_period_us": "100000",
    }
    assert groups(tmp_path, files, "5:memory:/memory\n4:cpu,cpuacct:/docker\nnonsense\n") == 2


def test_core_count_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert groups(tmp_path, {}) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert groups(tmp_path, {}) == 1


def test_this_process_has_at_least_one_core() -> None:
    assert 1 <= available_cores() <= AFFINITY


CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC 9R14
cpu MHz\t\t: 2600.4
flags\t\t: fpu avx2 avx512_vnni

processor\t: 1
model name\t: AMD EPYC 9R14
cpu MHz\t\t: 3700.0
flags\t\t: fpu avx2 avx512_vnni
"""


def test_cpuinfo_fields_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    machine = this_machine(tmp_path / "cpuinfo")
    assert (machine.cpu, machine.flags) == ("AMD EPYC 9R14", ("avx2", "avx512_vnni"))
    assert cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "avx512_vnni"}
    assert core_clocks(tmp_path / "cpuinfo") == [2600, 3700]


def test_arm_features_are_cpu_flags(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd asimddp\n")
    assert this_machine(tmp_path / "cpuinfo").flags == ("asimd", "asimddp")


def test_missing_cpuinfo_has_no_flags_or_clocks(tmp_path: Path) -> None:
    assert (cpu_flags(tmp_path / "absent"), core_clocks(tmp_path / "absent")) == (frozenset(), [])
    assert "instruction sets unknown" in str(this_machine(tmp_path / "absent"))
