"""What the command line reads and shows: lines in, JSON lines or tables out."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.certificate import Certificate, Estimate, Parity
from manylabel.bundle.manifest import PRECISIONS
from manylabel.errors import InputError
from manylabel.inference.predictions import Prediction
from manylabel.system.unicode import valid_unicode

SHOWN = 100
"""Characters of a text in a table."""

FLIPPED_SHOWN = 5
"""Labels named for their flipped decisions."""


def read_arguments(texts: Sequence[str]) -> list[str]:
    """Texts from the command line, as UTF-8 whatever the locale says; bytes that are none are read as U+FFFD."""
    return [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in texts]


def read_lines() -> Iterator[str]:
    """Texts from standard input, one a line, without the line's end. Bytes that are no UTF-8 are read as U+FFFD.

    Raises:
        InputError: There is no standard input.
    """
    if sys.stdin is None:
        raise InputError("there is no text, and standard input is closed. Name texts, or pipe them in, one a line.")
    if sys.stdin.isatty():
        print("Reading texts from the terminal, one a line; end with Ctrl-D.", file=sys.stderr)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Lines end with \n alone, as for `wc -l`: a stray \r would shift every later answer.
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline="\n")
    return (line.removesuffix("\n").removesuffix("\r") for line in sys.stdin)


def write_utf8() -> None:
    """Write UTF-8 whatever the locale says: JSON lines are, and labels are not all ASCII."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def json_line(text: str, prediction: Prediction) -> str:
    """A text and its prediction as one line of JSON."""
    return json.dumps({"text": valid_unicode(text), **asdict(prediction)}, ensure_ascii=False)


def table(text: str, prediction: Prediction) -> str:
    """A text and its prediction for a reader. Nothing in a text can steer the terminal."""
    lines = [printable(text, SHOWN)]
    for label, probability in prediction.scores.items():
        bar = "█" * round(probability * 20)
        lines.append(f"  {'✓' if label in prediction.labels else ' '} {probability:6.3f} {bar:<20} {label}")
    if prediction.truncated:
        lines.append("  the end of the text was not read")
    return "\n".join(lines) + "\n"


def printable(text: str, most: int) -> str:
    """The beginning of a text, in which nothing can steer the terminal."""
    shown = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(mark if mark.isprintable() else "�" for mark in shown)


def describe(bundle: Bundle) -> Iterator[str]:
    """What a bundle is, line by line: labels with their thresholds, variants and splits with their figures."""
    manifest = bundle.manifest
    reads = f"{manifest.max_length} tokens at once, longer texts: {manifest.long_text.policy}"
    yield f"{bundle.reference or bundle.path}: {len(manifest.labels)} labels, {reads}"
    yield f"digest {bundle.digest}"
    tuned = "tuned on validation data" if manifest.thresholds_tuned else "0.5: no validation data was given"
    yield f"thresholds {tuned}"
    yield ""
    yield _row("label", [variant.precision for variant in manifest.variants])
    for column, label in enumerate(manifest.labels):
        yield _row(label, [f"{variant.thresholds[column]:.3f}" for variant in manifest.variants])
    yield ""
    for variant in manifest.variants:
        size = sum(manifest.files[name].bytes for name in (variant.file, *bundle.weights_of(variant))) / 1e6
        made = f"{variant.precision}: {variant.file}, {size:.1f} MB, for {', '.join(variant.providers)}."
        yield f"{made} {variant.note}".rstrip()
        if variant.rescue:
            kept, all_, cost = variant.rescue.kept, variant.rescue.products, variant.rescue.cost
            yield f"  {len(kept)} of {all_} products stay in fp32 ({cost}): {', '.join(kept)}"
    yield ""
    yield from describe_certificate(manifest.certificate)
    yield ""
    for split, figures in manifest.metrics.items():
        yield from _figures(f"{split}, PyTorch", figures)


def describe_certificate(certificate: Certificate) -> Iterator[str]:
    """What a certificate says, line by line."""
    yield f"compared with {certificate.reference} on {certificate.texts:,} texts ({certificate.data})"
    for precision, parity in sorted(certificate.parity.items(), key=lambda pair: PRECISIONS.index(pair[0])):
        yield from _parity(precision, parity)
    for precision, reason in certificate.refused.items():
        yield f"{precision}: refused. {reason}"
    yield f"measured on {certificate.device}: {certificate.machine}"


def _parity(precision: str, parity: Parity) -> Iterator[str]:
    yield (
        f"{precision}: probabilities differ by {parity.mean_difference:.1e} in the mean, {parity.p999_difference:.1e} "
        f"at the 99.9th percentile, {parity.max_difference:.1e} at most"
    )
    yield (
        f"  {parity.flipped:,} decisions flipped, so that {parity.texts_flipped:,} of {parity.texts_labelled:,} texts "
        f"with a label get other labels ({parity.flips:.2%}); {parity.ties:,} ties"
    )
    flipped = [(label, one) for label, one in parity.labels.items() if one.gained or one.lost]
    most = sorted(flipped, key=lambda pair: -(pair[1].gained + pair[1].lost))[:FLIPPED_SHOWN]
    if most:
        yield f"  flipped most: {', '.join(f'{label} +{one.gained} -{one.lost} of {one.given}' for label, one in most)}"
    if parity.quality:
        quality = parity.quality
        yield f"  micro-F1 {_estimate(quality.micro_f1)}, change {_estimate(quality.micro_f1_change, '+')}"
        yield f"  macro-F1 {_estimate(quality.macro_f1)}, change {_estimate(quality.macro_f1_change, '+')}"
    yield f"  {parity.alone.same} of {parity.alone.tried} texts score the same bits alone as among the others"


def _estimate(figure: Estimate, sign: str = "") -> str:
    return f"{figure.value:{sign}.4f} [{figure.low:{sign}.4f}, {figure.high:{sign}.4f}]"


def _figures(name: str, figures: Any) -> Iterator[str]:
    """Figures on a line, those of mappings among them on lines of their own."""
    numbers = {key: value for key, value in figures.items() if isinstance(value, int | float)}
    if numbers:
        yield f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from _figures(f"{name}, {key}", value)


def _row(label: str, values: Sequence[str]) -> str:
    return f"  {label:<32}" + "".join(f"{value:>8}" for value in values)
