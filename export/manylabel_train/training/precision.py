"""What training computes in, and on how many threads: what this machine and this process allow."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from manylabel.errors import DeviceUnavailable
from manylabel.system.cpu_quota import available_cores

Precision = Literal["bf16", "fp16", "fp32"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
THREADS = "OMP_NUM_THREADS"


def best_precision() -> Precision:
    """bf16 where the machine computes in it; else fp16 on CUDA, whose gradients the Trainer scales; else fp32."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def require_device(precision: Precision) -> None:
    """Refuse a precision that needs a device that is not there.

    Raises:
        DeviceUnavailable: fp16 was asked for without CUDA: on a CPU it is slow, and loses small gradients.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "training in fp16 needs CUDA, and this PyTorch finds none. Leave --train-precision out: "
            f"{best_precision()} is what this machine is best at."
        )


@contextmanager
def own_threads() -> Iterator[None]:
    """PyTorch on no more threads than this process may have cores, unless OMP_NUM_THREADS says how many.

    PyTorch counts the cores that it sees, and knows nothing of a container's quota: more threads than cores wait for
    each other at the end of every operation, and burn what they wait for.
    """
    before = torch.get_num_threads()
    if not os.environ.get(THREADS):
        torch.set_num_threads(min(before, available_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)
