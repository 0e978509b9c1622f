"""How the graphs compare with PyTorch, as sections of the card."""

from collections.abc import Iterator

from manylabel.bundle.bundle import FP32, Manifest, MixedPrecision
from manylabel.bundle.certificate import Estimate
from manylabel_export.card.markdown import code, table


def variants(manifest: Manifest) -> Iterator[str]:
    """Every variant beside PyTorch, those that were rescued or refused, and what the bundle lacks."""
    certificate = manifest.certificate
    head = [
        *("variant", "for", "greatest difference", "99.9th percentile", "mean difference"),
        *("texts with other labels", "ties", "same bits alone", "micro-F1", "macro-F1"),
    ]
    yield from [
        "## Variants against PyTorch",
        "",
        f"Against {certificate.reference} on {certificate.texts:,} {certificate.data} texts: differences of "
        "probabilities; texts that get other labels, of those that get any; decisions that differ by rounding alone "
        "(ties); texts that score the same bits alone as among the others; F1 with its 95 % interval, and its change."
        + " int8 was fitted to some of these texts."
        * ("int8" in certificate.parity and certificate.data == "validation"),
        "",
        *table(head, [_variant_row(manifest, precision) for precision in certificate.parity]),
        "",
        f"Measured on {certificate.device}: {certificate.machine}.",
    ]
    for variant in manifest.variants:
        if variant.rescue:
            yield ""
            yield _rescue(variant.precision, variant.rescue)
    for precision, reason in certificate.refused.items():
        yield ""
        yield f"{precision} was refused: {reason}"
    yield from _without_fp32(manifest)


def _variant_row(manifest: Manifest, precision: str) -> list[str]:
    parity, written = manifest.certificate.parity[precision], {one.precision: one for one in manifest.variants}
    providers = written[precision].providers if precision in written else ()
    quality = parity.quality
    return [
        precision,
        ", ".join(name.removesuffix("ExecutionProvider") for name in providers) or "not written",
        *(f"{figure:.1e}" for figure in (parity.max_difference, parity.p999_difference, parity.mean_difference)),
        f"{parity.texts_flipped:,} of {parity.texts_labelled:,} ({parity.flips:.2%})",
        f"{parity.ties:,}",
        f"{parity.alone.same} of {parity.alone.tried}",
        _f1(quality.micro_f1, quality.micro_f1_change) if quality else "not measured",
        _f1(quality.macro_f1, quality.macro_f1_change) if quality else "not measured",
    ]


def _f1(figure: Estimate, change: Estimate) -> str:
    return (
        f"{figure.value:.4f} ({figure.low:.3f} to {figure.high:.3f}), change {change.value:+.4f} "
        f"({change.low:+.4f} to {change.high:+.4f})"
    )


def _rescue(precision: str, rescue: MixedPrecision) -> str:
    return (
        f"{precision} was beyond its budget: {rescue.reason}. {len(rescue.kept)} of {rescue.products} products stay in "
        f"fp32 for that, and {rescue.cost}: {', '.join(map(code, rescue.kept))}."
    )


def _without_fp32(manifest: Manifest) -> Iterator[str]:
    if FP32 not in (variant.file for variant in manifest.variants):
        yield ""
        yield (
            f"The fp32 graph was proved equal to PyTorch on these texts. {code(FP32)} is not in this bundle; readers "
            "without ONNX Runtime's own operators (OpenVINO) and Optimum need one with it."
        )


def flips(manifest: Manifest) -> Iterator[str]:
    """Labels that some variant gives to other texts than PyTorch does."""
    found = manifest.certificate.parity
    by_label = {label: [parity.labels[label] for parity in found.values()] for label in manifest.labels}
    rows = [
        [label, f"{sides[0].given:,}", *(f"+{side.gained} -{side.lost}" for side in sides)]
        for label, sides in by_label.items()
        if any(side.gained or side.lost for side in sides)
    ]
    if rows:
        yield from [
            "## Decisions that differ, by label",
            "",
            "Texts that a label is given to by PyTorch, by the variant alone (+) and by PyTorch alone (-); labels with "
            "none of these are left out.",
            "",
            *table(["label", "PyTorch", *found], rows),
            "",
        ]
