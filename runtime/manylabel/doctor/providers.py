"""Execution providers of ONNX Runtime: run a tiny model on each one alone, without fallback to another."""

import ctypes
import io
import re
from base64 import b64decode
from contextlib import redirect_stderr
from types import ModuleType

import numpy as np

from manylabel.doctor.environment import Finding, read_requirements
from manylabel.errors import DeviceUnavailable, MissingDependency
from manylabel.inference.ort_loader import PROVIDERS, check_device, has_gpu, load_onnxruntime
from manylabel.inference.thresholding import sigmoid
from manylabel.system.hardware_info import installed_version

CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]
BUILDS = ("onnxruntime", "onnxruntime-gpu")
INSTALL_LIBRARIES = 'pip install "onnxruntime-gpu[cuda,cudnn]"'

TINY_MODEL = b64decode(
    "CAg63wEKHwoJaW5wdXRfaWRzEgFhIgRDYXN0KgkKAnRvGAGgAQIKMAoBYRIBYiIKUmVkdWNlTWVhbioLCgRheGVzQAGgAQcqDwoIa2VlcGRpbXMYAaAB"
    "AgoRCgFiCgF3EgFjIgZNYXRNdWwKGwoBYxINcHJvYmFiaWxpdGllcyIHU2lnbW9pZBIEdGlueSoTCAEIAhABIggAAAA/AACAv0IBd1odCglpbnB1dF9p"
    "ZHMSEAoOCAcSCgoDEgFuCgMSAXNiIAoNcHJvYmFiaWxpdGllcxIPCg0IARIJCgMSAW4KAggCQgQKABAR"
)
"""An ONNX graph: the sigmoid of (0.5, -1) times the mean of each row of `input_ids`. Its MatMul needs cuBLAS, the
library that CUDA installations lack most often. tests/export/test_doctor_graph.py builds the same graph with `onnx`."""

SAMPLE_IDS = np.array([[1, 2, 3], [-4, 0, 1]], dtype=np.int64)
EXPECTED = sigmoid(SAMPLE_IDS.mean(axis=1, keepdims=True) * np.array([0.5, -1.0]))
_ERROR_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


def check_providers() -> list[Finding]:
    """Check the installed build of onnxruntime and every provider that it offers."""
    builds = {name: installed for name in BUILDS if (installed := installed_version(name))}
    extra = "gpu" if has_gpu() else "cpu"
    reinstall = f'pip uninstall -y {" ".join(builds)} && pip install "manylabel[{extra}]"'
    try:
        ort = load_onnxruntime()
    except MissingDependency as exc:
        command = reinstall if builds else f'pip install "manylabel[{extra}]"'
        return [Finding("onnxruntime", "fault", str(exc).split(" pip ")[0], command, {"builds": builds})]
    offered = ort.get_available_providers()
    ort.set_default_logger_severity(4)  # the findings report what fails; onnxruntime's log would repeat it
    try:
        return [_check_build(builds, offered, reinstall), *(_check_provider(ort, name) for name in offered)]
    finally:
        ort.set_default_logger_severity(2)  # the default


def _check_build(builds: dict[str, str], offered: list[str], reinstall: str) -> Finding:
    says = " and ".join(f"{name} {version}" for name, version in builds.items()) or "a custom build"
    details = {"builds": builds, "offers": offered, "gpu": has_gpu()}
    if faults := [each.outdated for each in read_requirements() if each.name in builds and each.outdated]:
        return Finding("onnxruntime", "fault", f"{faults[0]}, which has known bugs", reinstall, details)
    if has_gpu() and CUDA not in offered:
        return Finding("onnxruntime", "note", f"{says}, without CUDA, but there is an NVIDIA GPU", reinstall, details)
    return Finding("onnxruntime", "ok", says, details=details)


def _check_provider(ort: ModuleType, name: str) -> Finding:
    """Check whether a provider computes correctly, and whether that matters on this machine."""
    missing = _missing_libraries(ort) if name == CUDA else []
    fault = try_provider(ort, name)
    details = {"works": not fault, "fault": fault, "missing_libraries": missing}
    if not fault:
        return Finding(name, "ok", "runs a tiny model correctly", details=details)
    if name not in (CPU, CUDA):
        return Finding(name, "ok", "does not run a tiny model alone; manylabel does not use it", "", details)
    if name == CUDA and not has_gpu():
        return Finding(name, "note", "offered, but there is no NVIDIA GPU or no driver; the CPU is used", "", details)
    libraries = f" Missing libraries: {', '.join(missing)}." if missing else ""
    command = "" if name == CPU else INSTALL_LIBRARIES if missing else "nvidia-smi"
    return Finding(name, "fault", f"does not work: {fault}.{libraries}", command, details)


def try_provider(ort: ModuleType, name: str) -> str:
    """Run the tiny model on one provider alone.

    Returns:
        Why the provider does not work; empty if it does.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if name != CPU:  # otherwise unsupported nodes fall back to the CPU, and the provider seems to work
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(TINY_MODEL, options, providers=[name], enable_fallback=0)
        if session.get_providers()[0] != name:  # onnxruntime dropped it with no more than a log line
            return "it did not start"
        (probabilities,) = session.run(None, {"input_ids": SAMPLE_IDS})
    except Exception as exc:  # onnxruntime's exceptions have no common base class but Exception
        message = _ERROR_PREFIX.sub("", str(exc).strip().split("\n")[0]).rstrip(".")
        return "it did not start, or falls back to the CPU" if "fallback to CPU" in message else message
    error = float(np.abs(probabilities - EXPECTED).max())
    return "" if error < 1e-3 else f"it computes wrong results, off by {error:.3g}"


def _missing_libraries(ort: ModuleType) -> list[str]:
    """Return the CUDA libraries that onnxruntime cannot find: it prints their names while it loads the others."""
    output = io.StringIO()
    with redirect_stderr(output):
        try:
            check_device(ort, "cuda")
        except DeviceUnavailable as exc:  # CUDA is not offered
            return [str(exc)]
    return [name for name in dict.fromkeys(re.findall(r"lib[\w-]+\.so[.\d]*\d", output.getvalue())) if _is_absent(name)]


def _is_absent(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return True
    return False
