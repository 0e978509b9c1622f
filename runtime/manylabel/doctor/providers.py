"""Which of onnxruntime's providers work: a tiny model is run on each, with no other to fall back on.

onnxruntime is reached through `manylabel.inference.ort_session`, which imports it.
"""

import ctypes
import io
import re
from base64 import b64decode
from contextlib import redirect_stderr
from types import ModuleType

import numpy as np

from manylabel.doctor.finding import Finding
from manylabel.doctor.packages import installed, requirements
from manylabel.errors import DeviceUnavailable, MissingDependency
from manylabel.inference.ort_session import PROVIDERS, check_device, has_gpu, load_onnxruntime

CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]
BUILDS = ("onnxruntime", "onnxruntime-gpu")
LIBRARIES = 'pip install "onnxruntime-gpu[cuda,cudnn]"'

TINY = b64decode(
    "CAg63wEKHwoJaW5wdXRfaWRzEgFhIgRDYXN0KgkKAnRvGAGgAQIKMAoBYRIBYiIKUmVkdWNlTWVhbioLCgRheGVzQAGgAQcqDwoIa2VlcGRpbXMYAaAB"
    "AgoRCgFiCgF3EgFjIgZNYXRNdWwKGwoBYxINcHJvYmFiaWxpdGllcyIHU2lnbW9pZBIEdGlueSoTCAEIAhABIggAAAA/AACAv0IBd1odCglpbnB1dF9p"
    "ZHMSEAoOCAcSCgoDEgFuCgMSAXNiIAoNcHJvYmFiaWxpdGllcxIPCg0IARIJCgMSAW4KAggCQgQKABAR"
)
"""An ONNX graph: the mean of each row of `input_ids`, times (0.5, -1), through a sigmoid. The product takes the library
that CUDA installations lack most often, cuBLAS. tests/export/test_doctor_graph.py builds it anew with `onnx`."""

ASKED = np.array([[1, 2, 3], [-4, 0, 1]], dtype=np.int64)
_ORIGIN = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
EXPECTED = 1 / (1 + np.exp(-ASKED.mean(axis=1, keepdims=True) * np.array([0.5, -1.0])))


def look() -> list[Finding]:
    """onnxruntime, and every provider that it offers."""
    builds = {name: found for name in BUILDS if (found := installed(name))}
    extra = "gpu" if has_gpu() else "cpu"
    anew = f'pip uninstall -y {" ".join(builds)} && pip install "manylabel[{extra}]"'
    try:
        ort = load_onnxruntime()
    except MissingDependency as exc:
        next_ = anew if builds else f'pip install "manylabel[{extra}]"'
        return [Finding("onnxruntime", "fault", str(exc).split(" pip ")[0], next_, {"builds": builds})]
    offered = ort.get_available_providers()
    ort.set_default_logger_severity(4)  # what does not start is told below, and not in its log besides
    try:
        return [_build(builds, offered, anew), *(_provider(ort, name) for name in offered)]
    finally:
        ort.set_default_logger_severity(2)  # as it comes


def _build(builds: dict[str, str], offered: list[str], anew: str) -> Finding:
    says = " and ".join(f"{name} {version}" for name, version in builds.items()) or "a build of your own"
    details = {"builds": builds, "offers": offered, "gpu": has_gpu()}
    if faults := [each.outdated for each in requirements() if each.name in builds and each.outdated]:
        return Finding("onnxruntime", "fault", f"{faults[0]}, in which faults are known", anew, details)
    if has_gpu() and CUDA not in offered:
        return Finding("onnxruntime", "note", f"{says}, without CUDA, beside an NVIDIA GPU", anew, details)
    return Finding("onnxruntime", "ok", says, details=details)


def _provider(ort: ModuleType, name: str) -> Finding:
    """Whether a provider computes what it should, and whether that matters here."""
    missing = _missing_libraries(ort) if name == CUDA else []
    fault = try_provider(ort, name)
    details = {"works": not fault, "fault": fault, "missing_libraries": missing}
    if not fault:
        return Finding(name, "ok", "answers a tiny model rightly", details=details)
    if name not in (CPU, CUDA):
        return Finding(
            name, "ok", "offered, and not used by manylabel; alone it does not run a tiny model", "", details
        )
    if name == CUDA and not has_gpu():
        return Finding(name, "note", "offered, and there is no NVIDIA GPU or no driver; the CPU answers", "", details)
    lacking = f" Missing libraries: {', '.join(missing)}." if missing else ""
    next_ = "" if name == CPU else LIBRARIES if missing else "nvidia-smi"
    return Finding(name, "fault", f"does not work: {fault}.{lacking}", next_, details)


def try_provider(ort: ModuleType, name: str) -> str:
    """Run the tiny model on one provider alone.

    Returns:
        Why it does not work; empty where it does.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if name != CPU:  # else what a provider does not take runs on the CPU, and the provider seems to work
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(TINY, options, providers=[name], enable_fallback=0)
        if session.get_providers()[0] != name:  # left out, with no more than a line in onnxruntime's log
            return "it did not start"
        (found,) = session.run(None, {"input_ids": ASKED})
    except Exception as exc:  # onnxruntime's exceptions share no base but Exception
        said = _ORIGIN.sub("", str(exc).strip().split("\n")[0]).rstrip(".")
        return "it did not start, or leaves the model to the CPU" if "fallback to CPU" in said else said
    off = float(np.abs(found - EXPECTED).max())
    return "" if off < 1e-3 else f"it computes wrongly: {off:.3g} off where 0 was expected"


def _missing_libraries(ort: ModuleType) -> list[str]:
    """The libraries of CUDA that onnxruntime looks for in vain: it prints their names while it loads the others."""
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            check_device(ort, "cuda")
        except DeviceUnavailable as exc:  # not offered
            return [str(exc)]
    return [name for name in dict.fromkeys(re.findall(r"lib[\w-]+\.so[.\d]*\d", said.getvalue())) if _absent(name)]


def _absent(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return True
    return False
