"""Which graph of a bundle answers: the one that was asked for, or the fastest that is meant for the device."""

from typing import Literal

from manylabel.bundle.bundle import Bundle, Variant
from manylabel.errors import InputError
from manylabel.inference.ort_session import PROVIDERS

Precision = Literal["auto", "fp32", "int8", "fp16"]


def choose_variant(bundle: Bundle, device: Literal["cpu", "cuda"], precision: Precision) -> Variant:
    """The variant that was asked for, or the fastest that is meant for the device.

    Raises:
        InputError: The bundle has no such variant, or it is made for another device.
    """
    meant = variants_for(bundle, device)
    if precision == "auto" and meant:
        return meant[-1]  # the manifest lists the most exact first
    wanted = f"variant for {device}" if precision == "auto" else f"variant {precision!r}"
    if precision not in bundle.variants:
        raise InputError(f"{bundle.path} has no {wanted}; it has {', '.join(bundle.variants)}.")
    variant = bundle.variants[precision]
    if variant not in meant:
        raise InputError(
            f"{variant.file} is made for {', '.join(variant.providers)}, not for {device}. "
            "Ask for another precision or device."
        )
    return variant


def variants_for(bundle: Bundle, device: Literal["cpu", "cuda"]) -> list[Variant]:
    """The variants that are meant for a device, the most exact first."""
    return [variant for variant in bundle.variants.values() if PROVIDERS[device] in variant.providers]
