"""Whether this processor adds products of bytes exactly: asked, not guessed from its name.

Before VNNI, x86 multiplies unsigned by signed bytes and adds pairs in 16 bits, which saturate: 255 * 127 * 2 is twice
what they hold. int8 graphs would answer otherwise there, silently. ONNX Runtime has a slower exact way for them, by the
session option `session.x64quantprecision`, and takes it wherever it is told to.
"""

from functools import cache
from typing import Any

import numpy as np

# A graph of one MatMulInteger: a (uint8) times b (int8), int32 out; test_vnni_check.py builds it again.
PRODUCT = (
    b'\x08\x08:>\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\t\n\x01a\x12\x04\n\x02\x08\x02'
    b"Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\r"
)
ROWS, DEPTH, COLUMNS = 8, 64, 32


@cache
def saturates(ort: Any) -> bool:
    """Whether products of bytes come out wrong where they are largest. Takes 3 ms, once a process.

    Args:
        ort: The module onnxruntime.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(PRODUCT, options, providers=["CPUExecutionProvider"])
    largest = {"a": np.full((ROWS, DEPTH), 255, np.uint8), "b": np.full((DEPTH, COLUMNS), 127, np.int8)}
    (found,) = session.run(None, largest)
    return bool((found != 255 * 127 * DEPTH).any())
