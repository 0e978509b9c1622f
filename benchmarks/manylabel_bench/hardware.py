"""The machine that a result was measured on: processor, clock, load, package versions, and its peak rates.

Peak rates are those of matrix multiplications in onnxruntime, in fp32 and int8, one per thread. The share of the peak
that a contender reaches (its place under the roofline) says how much room there is. Only the operations of the
encoder's linear layers count, a multiplication and an addition each; attention, normalisations and activations count as
zero.
"""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.system.hardware_info import core_clocks, installed_version, this_machine

BASELINE_PACKAGES = ("openvino", "nncf", "sentence-transformers")

MATMUL_SHAPES = ((256, 384, 1536), (512, 1536, 384), (512, 1024, 1024))
"""Rows, inner and outer sizes; the best counts. The first two are MiniLM's feed-forward layers on a usual batch."""
MATMUL_SECONDS = 0.3
SIZE_FIELDS = ("hidden_size", "num_hidden_layers", "intermediate_size")


def describe_hardware() -> dict[str, Any]:
    """Return the machine with its load and clock, and the versions of the packages that are measured on it."""
    machine = asdict(this_machine())
    baselines = {name: installed for name in BASELINE_PACKAGES if (installed := installed_version(name))}
    return machine | {
        "flags": list(machine["flags"]),
        "mhz": core_clocks(),
        "load_1min": os.getloadavg()[0],
        "versions": {**machine["versions"], **baselines},
    }


def has_cpu_flag(name: str) -> bool:
    """Return whether the CPU has an instruction set, by the name that Linux gives it."""
    return name in this_machine().flags


def measure_peak(threads: int) -> dict[str, float]:
    """Return the highest rate of `threads` threads together, in 10^9 operations a second, for fp32 and for int8."""
    return {
        operands: max(_matmul_rate(operands, shape, threads) for shape in MATMUL_SHAPES) / 1e9
        for operands in ("fp32", "int8")
    }


def operations_per_token(config: Path) -> float | None:
    """Return the operations per token in an encoder's linear layers.

    Work that a graph skips because one token of the last layer is enough is counted all the same: the figure describes
    the model, and is the same for every contender.

    Args:
        config: The model's `config.json`.

    Returns:
        The number of operations, or None if the file does not name the sizes as BERT does.
    """
    fields = json.loads(config.read_text(encoding="utf-8"))
    if any(not isinstance(fields.get(name), int) for name in SIZE_FIELDS):
        return None
    hidden, layers, inner = (fields[name] for name in SIZE_FIELDS)
    return float(2 * layers * (4 * hidden * hidden + 2 * hidden * inner))


def _matmul_rate(operands: str, shape: tuple[int, int, int], threads: int) -> float:
    session, rows = _matmul_session(operands, shape), _operand(operands, shape[:2], seed=1)
    feed = {"a": rows}
    session.run(None, feed)

    def count_calls() -> int:
        calls, end = 0, time.perf_counter() + MATMUL_SECONDS
        while time.perf_counter() < end:
            session.run(None, feed)
            calls += 1
        return calls

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        calls = sum(future.result() for future in [pool.submit(count_calls) for _ in range(threads)])
        return 2 * calls * shape[0] * shape[1] * shape[2] / (time.perf_counter() - started)


def _matmul_session(operands: str, shape: tuple[int, int, int]) -> Any:
    import onnx
    import onnxruntime

    floats = operands == "fp32"
    in_type, out_type = (onnx.TensorProto.FLOAT,) * 2 if floats else (onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
    weights = _operand("fp32" if floats else "weights", shape[1:], seed=0)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul" if floats else "MatMulInteger", ["a", "b"], ["c"])],
        "peak",
        [onnx.helper.make_tensor_value_info("a", in_type, shape[:2])],
        [onnx.helper.make_tensor_value_info("c", out_type, (shape[0], shape[2]))],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _operand(operands: str, shape: tuple[int, ...], *, seed: int) -> Any:
    """Return random values; int8 weights are signed and activations unsigned (U8S8), the form that VNNI takes."""
    rng = np.random.default_rng(seed)
    if operands == "fp32":
        return rng.standard_normal(shape, dtype=np.float32)
    low, high, dtype = (-128, 128, np.int8) if operands == "weights" else (0, 256, np.uint8)
    return rng.integers(low, high, shape, dtype=dtype)
