"""Which graph of a bundle runs on a device, and why another one cannot."""

from pathlib import Path
from typing import Any, Literal

import pytest

from manylabel import Bundle, InputError
from manylabel.bundle.variants import Precision, choose_variant, variants_for


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [("cpu", "auto", "int8"), ("cuda", "auto", "fp16"), ("cpu", "fp32", "fp32"), ("cuda", "fp32", "fp32")],
)
def test_auto_selects_fastest_variant_for_device(
    bundle: Path, device: Literal["cpu", "cuda"], precision: Precision, expected: str
) -> None:
    assert choose_variant(Bundle.open(bundle), device, precision).precision == expected


def test_variants_are_ordered_by_precision(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert [variant.precision for variant in variants_for(opened, "cpu")] == ["fp32", "int8"]
    assert [variant.precision for variant in variants_for(opened, "cuda")] == ["fp32", "fp16"]


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("cpu", "bf16", "{} has no variant 'bf16'; it has fp32, int8, fp16."),
        (
            "cuda",
            "int8",
            "model_int8.onnx is made for CPUExecutionProvider, not for cuda. Choose another precision or device.",
        ),
    ],
)
def test_unusable_variant_error_lists_alternatives(bundle: Path, device: Any, precision: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_variant(Bundle.open(bundle), device, precision)
    assert str(caught.value) == message.format(bundle)
