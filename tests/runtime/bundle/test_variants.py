"""Which graph of a bundle answers, and why another does not."""

from pathlib import Path
from typing import Any, Literal

import pytest

from manylabel import Bundle, InputError
from manylabel.bundle.variants import Precision, choose_variant, variants_for


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [("cpu", "auto", "int8"), ("cuda", "auto", "fp16"), ("cpu", "fp32", "fp32"), ("cuda", "fp32", "fp32")],
)
def test_the_fastest_for_the_device_answers_unless_another_is_asked_for(
    bundle: Path, device: Literal["cpu", "cuda"], precision: Precision, expected: str
) -> None:
    assert choose_variant(Bundle.open(bundle), device, precision).precision == expected


def test_the_most_exact_comes_first(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert [variant.precision for variant in variants_for(opened, "cpu")] == ["fp32", "int8"]
    assert [variant.precision for variant in variants_for(opened, "cuda")] == ["fp32", "fp16"]


@pytest.mark.parametrize(
    ("device", "precision", "said"),
    [
        ("cpu", "bf16", "{} has no variant 'bf16'; it has fp32, int8, fp16."),
        (
            "cuda",
            "int8",
            "model_int8.onnx is made for CPUExecutionProvider, not for cuda. Ask for another precision or device.",
        ),
    ],
)
def test_what_cannot_answer_says_what_can(bundle: Path, device: Any, precision: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_variant(Bundle.open(bundle), device, precision)
    assert str(caught.value) == said.format(bundle)
