"""Input and output of the command line: texts from arguments and standard input, JSON lines and tables."""

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

MAX_TEXT_LENGTH = 100
"""Characters of a text that a table shows."""

MAX_FLIPPED_LABELS = 5
"""Number of labels to list with the most flipped decisions."""


def decode_arguments(texts: Sequence[str]) -> list[str]:
    """Return arguments decoded as UTF-8 whatever the locale; invalid bytes become U+FFFD.

    Example:
        >>> decode_arguments(["zu spät"])
        ['zu spät']
    """
    return [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in texts]


def read_lines() -> Iterator[str]:
    """Return the lines of standard input without line ends, decoded as UTF-8; invalid bytes become U+FFFD.

    Raises:
        InputError: Standard input is closed.
    """
    if sys.stdin is None:
        raise InputError("there are no texts: standard input is closed. Pass texts, or pipe them in, one per line.")
    if sys.stdin.isatty():
        print("Reading texts from the terminal, one per line; end with Ctrl-D.", file=sys.stderr)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Only \n ends a line, as for `wc -l`: a stray \r would shift every later prediction.
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline="\n")
    return (line.removesuffix("\n").removesuffix("\r") for line in sys.stdin)


def write_utf8() -> None:
    """Make standard output UTF-8 whatever the locale: JSON requires it, and labels are not always ASCII."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def format_json_line(text: str, prediction: Prediction) -> str:
    """Return a text and its prediction as one line of JSON."""
    return json.dumps({"text": valid_unicode(text), **asdict(prediction)}, ensure_ascii=False)


def format_table(text: str, prediction: Prediction) -> str:
    """Return a text and its prediction as a table; control characters in the text do not reach the terminal."""
    lines = [truncate(text, MAX_TEXT_LENGTH)]
    for label, probability in prediction.scores.items():
        bar = "█" * round(probability * 20)
        lines.append(f"  {'✓' if label in prediction.labels else ' '} {probability:6.3f} {bar:<20} {label}")
    if prediction.truncated:
        lines.append("  the text was truncated")
    return "\n".join(lines) + "\n"


def truncate(text: str, length: int) -> str:
    r"""Return the first characters of a text, with control characters replaced so that a terminal can print it.

    Example:
        >>> truncate("late\x1b[2J", 20)
        'late�[2J'
        >>> truncate("the parcel was late", 10)
        'the parce…'
    """
    shown = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(character if character.isprintable() else "�" for character in shown)


def describe_bundle(bundle: Bundle) -> Iterator[str]:
    """Yield lines that describe a bundle: labels with thresholds, variants, certificate and metrics."""
    manifest = bundle.manifest
    lengths = f"up to {manifest.max_length} tokens per window, longer texts: {manifest.long_text.policy}"
    yield f"{bundle.reference or bundle.path}: {len(manifest.labels)} labels, {lengths}"
    yield f"digest {bundle.digest}"
    yield "thresholds " + ("tuned on validation data" if manifest.thresholds_tuned else "0.5: not tuned")
    yield ""
    yield _row("label", [variant.precision for variant in manifest.variants])
    for column, label in enumerate(manifest.labels):
        yield _row(label, [f"{variant.thresholds[column]:.3f}" for variant in manifest.variants])
    yield ""
    for variant in manifest.variants:
        size = sum(manifest.files[name].bytes for name in (variant.file, *bundle.weights_of(variant))) / 1e6
        summary = f"{variant.precision}: {variant.file}, {size:.1f} MB, for {', '.join(variant.providers)}."
        yield f"{summary} {variant.note}".rstrip()
        if variant.rescue:
            kept, total, cost = variant.rescue.kept, variant.rescue.products, variant.rescue.cost
            yield f"  {len(kept)} of {total} linear layers stay in fp32 ({cost}): {', '.join(kept)}"
    yield ""
    yield from describe_certificate(manifest.certificate)
    yield ""
    for split, metrics in manifest.metrics.items():
        yield from _describe_metrics(f"{split}, PyTorch", metrics)


def describe_certificate(certificate: Certificate) -> Iterator[str]:
    """Yield lines that describe a certificate."""
    yield f"compared with {certificate.reference} on {certificate.texts:,} texts ({certificate.data})"
    for precision, parity in sorted(certificate.parity.items(), key=lambda pair: PRECISIONS.index(pair[0])):
        yield from _describe_parity(precision, parity)
    for precision, reason in certificate.refused.items():
        yield f"{precision}: not written. {reason}"
    yield f"measured on {certificate.device}: {certificate.machine}"


def _describe_parity(precision: str, parity: Parity) -> Iterator[str]:
    yield (
        f"{precision}: probabilities differ by {parity.mean_difference:.1e} on average, {parity.p999_difference:.1e} "
        f"at the 99.9th percentile, {parity.max_difference:.1e} at most"
    )
    yield (
        f"  {parity.flipped:,} decisions flipped: {parity.texts_flipped:,} of {parity.texts_labelled:,} texts with at "
        f"least one label get other labels ({parity.flips:.2%}); {parity.ties:,} ties"
    )
    flipped = [(label, counts) for label, counts in parity.labels.items() if counts.gained or counts.lost]
    flipped.sort(key=lambda pair: -(pair[1].gained + pair[1].lost))
    if flipped:
        most = [f"{label} +{each.gained} -{each.lost} of {each.given}" for label, each in flipped[:MAX_FLIPPED_LABELS]]
        yield f"  flipped most: {', '.join(most)}"
    if parity.quality:
        quality = parity.quality
        yield f"  micro-F1 {_estimate(quality.micro_f1)}, change {_estimate(quality.micro_f1_change, '+')}"
        yield f"  macro-F1 {_estimate(quality.macro_f1)}, change {_estimate(quality.macro_f1_change, '+')}"
    yield f"  {parity.alone.same} of {parity.alone.tried} texts have bit-identical scores in a batch of their own"


def _estimate(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.4f} [{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]"


def _describe_metrics(name: str, metrics: Any) -> Iterator[str]:
    """Yield one line of numbers, and further lines for the nested mappings."""
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    if numbers:
        yield f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    for key, value in metrics.items():
        if isinstance(value, dict):
            yield from _describe_metrics(f"{name}, {key}", value)


def _row(label: str, values: Sequence[str]) -> str:
    return f"  {label:<32}" + "".join(f"{value:>8}" for value in values)
