"""`manylabel doctor` on this machine, and on simulated machines with a problem."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.runtime.conftest import Cli, Python

from manylabel import __version__
from manylabel.doctor import environment, providers
from manylabel.doctor.environment import Finding
from manylabel.inference.ort_loader import load_onnxruntime

onnxruntime = load_onnxruntime()
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
DOCTOR = "from manylabel.doctor.cli import doctor\ndoctor(['--json'])"


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in findings}


def write_distribution(folder: Path, name: str, release: str, *requires: str) -> None:
    metadata = folder / f"{name.replace('-', '_')}-{release}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {release}", *(f"Requires-Dist: {each}" for each in requires)]
    metadata.write_text("\n".join(["Metadata-Version: 2.1", *lines]) + "\n")


def diagnosed(python: Python, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the doctor in a new process with `folder` first in its path; return exit code and findings by name."""
    done = python(DOCTOR, path=[folder])
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    return done.returncode, {each["name"]: each for each in document["findings"]} | {"sound": document["sound"]}


def test_doctor_on_a_working_machine(cli: Cli) -> None:
    done = cli("doctor", "--json")
    document = json.loads(done.stdout)
    found = {each["name"]: each for each in document["findings"]}
    assert (done.exit_code, document["sound"]) == (0, True)
    assert found["manylabel"]["details"]["version"] == __version__
    assert found[CPU]["details"]["works"] is True
    assert set(onnxruntime.get_available_providers()) <= set(found)
    assert all(each["status"] in ("ok", "note") for each in document["findings"])


def test_doctor_table_ends_with_next_command(cli: Cli) -> None:
    *findings, blank, last = cli("doctor").stdout.splitlines()
    assert blank == ""
    assert last.startswith("Next: manylabel verify BUNDLE")
    assert any(line.startswith("ok") and CPU in line for line in findings)


def test_doctor_finds_two_onnxruntime_builds(tmp_path: Path, python: Python) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        write_distribution(tmp_path, name, "1.32.0")
    status, found = diagnosed(python, tmp_path)
    assert (status, found["sound"], found["onnxruntime"]["status"]) == (1, False, "fault")
    assert "are both installed" in found["onnxruntime"]["says"]
    assert found["onnxruntime"]["next"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install ")


def test_doctor_finds_broken_onnxruntime(tmp_path: Path, python: Python) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError('libstdc++.so.6: too old')\n")
    status, found = diagnosed(python, tmp_path)
    assert (status, found["onnxruntime"]["status"]) == (1, "fault")
    assert "libstdc++.so.6: too old" in found["onnxruntime"]["says"]
    assert CPU not in found


def test_doctor_finds_old_onnxruntime(tmp_path: Path, python: Python) -> None:
    write_distribution(tmp_path, "onnxruntime", "1.9.0")
    status, found = diagnosed(python, tmp_path)
    assert (status, found["onnxruntime"]["status"]) == (1, "fault")
    assert "onnxruntime 1.9.0 is older than 1." in found["onnxruntime"]["says"]


def test_doctor_finds_old_or_missing_package(tmp_path: Path, python: Python) -> None:
    needed = ("numpy>=1.26", "tokenizers>=999.1", "no-such-package>=1")
    write_distribution(tmp_path, "manylabel", __version__, *needed, "pyarrow>=18; extra == 'files'")
    status, found = diagnosed(python, tmp_path)
    assert status == 1
    assert found["manylabel"]["next"] == "pip install --upgrade manylabel"
    assert "is older than 999.1" in found["manylabel"]["says"]
    assert "no-such-package is missing" in found["manylabel"]["says"]
    assert "numpy" not in found["manylabel"]["says"]


def test_doctor_notes_uninstalled_manylabel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "DISTRIBUTION", "no-such-package")
    assert by_name(environment.check_environment())["no-such-package"].status == "note"


def test_doctor_lists_complete_extras(tmp_path: Path, python: Python) -> None:
    needs = ["numpy>=1.26; extra == 'some'", "numpy; extra == 'more'", "no-such-package>=2; extra == 'more'"]
    write_distribution(tmp_path, "manylabel", __version__, *needs, "click>=999; extra == 'late'")
    status, found = diagnosed(python, tmp_path)
    assert status == 0
    assert found["extras"]["details"] == {"here": ["some", "late"], "not_here": ["more"]}
    assert (found["extras"]["status"], found["extras"]["next"]) == (
        "note",
        'pip install --upgrade "manylabel[some,late]"',
    )


def test_versions_are_compared_numerically() -> None:
    assert environment.Requirement("numpy", "0.9.10", "").outdated == ""
    assert environment.Requirement("numpy", "1000", "").outdated.endswith("is older than 1000")
    assert environment.Requirement("no-such-package", "1", "").outdated == ""


# Providers


class Build:
    """A stand-in for onnxruntime that also offers CUDA and TensorRT, with configurable behaviour."""

    def __init__(self, *, prints: str = "", raises: str = "", wrong: bool = False, starts: bool = True) -> None:
        self._prints, self._raises, self._wrong, self._starts = prints, raises, wrong, starts

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", CUDA, CPU]

    def preload_dlls(self) -> None:
        print(self._prints)

    def InferenceSession(self, model: bytes, options: Any, *, providers: list[str], **more: Any) -> Any:  # noqa: N802
        if providers != [CPU] and self._raises:
            raise RuntimeError(self._raises)
        real = onnxruntime.InferenceSession(model, providers=[CPU])
        off = 0.5 if self._wrong else 0.0
        return SimpleNamespace(
            run=lambda names, feeds: [real.run(names, feeds)[0] + off],
            get_providers=lambda: providers if self._starts else [CPU],
        )


def looked(monkeypatch: pytest.MonkeyPatch, build: Build, *, gpu: bool) -> dict[str, Finding]:
    monkeypatch.setattr(providers, "load_onnxruntime", lambda: build)
    monkeypatch.setattr(providers, "has_gpu", lambda: gpu)
    return by_name(providers.check_providers())


def test_doctor_names_missing_cuda_libraries(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prints = "Failed to load libcublasLt.so.99: cannot open shared object file\nFailed to load libc.so.6: here, though"
    found = looked(monkeypatch, Build(prints=prints, raises="CUDA failed to start.\nmore"), gpu=True)[CUDA]
    assert (found.status, found.details["missing_libraries"]) == ("fault", ["libcublasLt.so.99"])
    assert found.says == "does not work: CUDA failed to start. Missing libraries: libcublasLt.so.99."
    assert found.next == 'pip install "onnxruntime-gpu[cuda,cudnn]"'
    assert capfd.readouterr().out == ""


def test_doctor_with_working_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(monkeypatch, Build(), gpu=True)
    assert (found[CUDA].status, found["onnxruntime"].status) == ("ok", "ok")


@pytest.mark.parametrize(
    ("build", "why"), [(Build(wrong=True), "wrong results, off by 0.5"), (Build(starts=False), "start")]
)
def test_doctor_detects_wrong_provider_results(monkeypatch: pytest.MonkeyPatch, build: Build, why: str) -> None:
    found = looked(monkeypatch, build, gpu=True)[CUDA]
    assert (found.status, found.next) == ("fault", "nvidia-smi")
    assert why in found.says


def test_doctor_notes_gpu_build_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(monkeypatch, Build(raises="no device"), gpu=False)
    assert (found[CUDA].status, found[CPU].status) == ("note", "ok")
    assert found["TensorrtExecutionProvider"].status == "ok"  # not used


def test_doctor_notes_gpu_with_cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Build, "get_available_providers", lambda self: [CPU])
    found = looked(monkeypatch, Build(), gpu=True)["onnxruntime"]
    assert found.status == "note"
    assert found.next.endswith('pip install "manylabel[gpu]"')


def test_doctor_detects_cpu_fallback() -> None:
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime offers no such provider")
    assert "falls back to the CPU" in providers.try_provider(onnxruntime, "AzureExecutionProvider")


def test_doctor_graph_expected_output() -> None:
    np.testing.assert_allclose(providers.EXPECTED[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))])
    assert providers.EXPECTED.shape == (2, 2)


# The machine


@pytest.mark.parametrize(("quota", "status", "used"), [(None, "ok", 8), (2.5, "ok", 3), (0.5, "note", 1)])
def test_doctor_reports_threads_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, status: str, used: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("manylabel.system.hardware_info.cpu_quota", lambda *where: quota)
    monkeypatch.setattr(environment, "cpu_quota", lambda: quota)
    found = by_name(environment.check_environment())["threads"]
    assert found.status == status
    assert (found.details["used"], found.details["affinity"], found.details["quota"]) == (used, 8, quota)


def test_doctor_notes_tokenizer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert by_name(environment.check_environment())["threads"].next == "unset TOKENIZERS_PARALLELISM"


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [("fpu avx2 avx512_vnni", "ok", "avx512_vnni"), ("fpu avx2", "note", "int8 gains little"), ("", "ok", "not known")],
)
def test_doctor_reports_int8_instructions(monkeypatch: pytest.MonkeyPatch, flags: str, status: str, says: str) -> None:
    monkeypatch.setattr(environment, "cpu_flags", lambda: frozenset(flags.split()))
    found = by_name(environment.check_environment())["int8"]
    assert found.status == status
    assert says in found.says
