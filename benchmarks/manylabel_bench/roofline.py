"""What this machine can do at most: matrix products of fp32 and of int8 in onnxruntime, one on each thread.

The share of it that a contender reaches says how far there is still to go. Operations are those of the encoder's
linear layers, a multiplication and an addition each; attention, norms and activations count as nothing.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ((256, 384, 1536), (512, 1536, 384), (512, 1024, 1024))
"""Rows, inner and outer sizes; the best counts. The first two are MiniLM's feed-forward layers on a batch of ours."""
SECONDS = 0.3
NAMES = ("hidden_size", "num_hidden_layers", "intermediate_size")


def measure(threads: int) -> dict[str, float]:
    """The greatest rates of `threads` threads together, in 10^9 operations a second, by operands."""
    return {operands: max(_rate(operands, shape, threads) for shape in SHAPES) / 1e9 for operands in ("fp32", "int8")}


def operations_per_token(config: Path) -> float | None:
    """Of an encoder's linear layers, by its `config.json`; None where that does not name the sizes as BERT does.

    What a graph leaves out because one token of the last layer is enough is counted as if it were done: the figure
    is that of the model, the same for all who answer with it.
    """
    found = json.loads(config.read_text(encoding="utf-8"))
    if any(not isinstance(found.get(name), int) for name in NAMES):
        return None
    hidden, layers, inner = (found[name] for name in NAMES)
    return float(2 * layers * (4 * hidden * hidden + 2 * hidden * inner))


def _rate(operands: str, shape: tuple[int, int, int], threads: int) -> float:
    session, rows = _session(operands, shape), _operand(operands, shape[:2], seed=1)
    feed = {"a": rows}
    session.run(None, feed)

    def work() -> int:
        calls, end = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            session.run(None, feed)
            calls += 1
        return calls

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        calls = sum(each.result() for each in [pool.submit(work) for _ in range(threads)])
        return 2 * calls * shape[0] * shape[1] * shape[2] / (time.perf_counter() - started)


def _session(operands: str, shape: tuple[int, int, int]) -> Any:
    import onnx
    import onnxruntime

    floats = operands == "fp32"
    given, taken = (onnx.TensorProto.FLOAT,) * 2 if floats else (onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
    weights = _operand("fp32" if floats else "weights", shape[1:], seed=0)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul" if floats else "MatMulInteger", ["a", "b"], ["c"])],
        "peak",
        [onnx.helper.make_tensor_value_info("a", given, shape[:2])],
        [onnx.helper.make_tensor_value_info("c", taken, (shape[0], shape[2]))],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _operand(operands: str, shape: tuple[int, ...], *, seed: int) -> Any:
    """Numbers as a layer has them; int8 weights are signed and its inputs are not: the form that VNNI takes."""
    dice = np.random.default_rng(seed)
    if operands == "fp32":
        return dice.standard_normal(shape, dtype=np.float32)
    low, high, kind = (-128, 128, np.int8) if operands == "weights" else (0, 256, np.uint8)
    return dice.integers(low, high, shape, dtype=kind)
