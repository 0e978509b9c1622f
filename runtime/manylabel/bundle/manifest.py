"""The manifest: what `bundle.json` contains, and its canonical form.

The canonical form includes a digest of the rest, so that a change of any byte is detected. Independent of folders.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manylabel.bundle.certificate import Certificate
from manylabel.bundle.strict_json import is_number, parse
from manylabel.errors import BundleError, BundleTooNew
from manylabel.inference.tokenizer import LongText

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
TOKENIZER = "tokenizer.json"
RESTORE = "Download the bundle again, or export it again with manylabel export."
PRECISIONS = ("fp32", "int8", "fp16")
"""The precisions of a bundle's graphs, the most exact first."""

MAX_NESTING = 32
"""Levels of nesting in free-form JSON: far more than any bundle has, and few enough for a recursive check."""


@dataclass(frozen=True)
class FileRecord:
    """Size and digest of one file.

    Attributes:
        bytes: The size.
        sha256: The digest in hexadecimal.

    Example:
        >>> FileRecord(bytes=3, sha256="ba7816bf").bytes
        3
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class MixedPrecision:
    """How a variant was brought within its accuracy budget: some linear layers stay in fp32.

    Attributes:
        reason: What exceeded the budget.
        kept: The linear layers (MatMuls) that stay in fp32, the most harmful first.
        products: The number of linear layers.
        slowdown: How many times as long the graph takes as without them, measured on a few of the texts; None if its
            device was not available.

    Example:
        >>> MixedPrecision("too many flips", ("/encoder/layer.0/MatMul",), 12, 1.07).cost
        'it takes 1.07 times as long'
    """

    reason: str
    kept: tuple[str, ...]
    products: int
    slowdown: float | None

    @property
    def cost(self) -> str:
        """The slowdown as a sentence."""
        return "its speed was not measured" if self.slowdown is None else f"it takes {self.slowdown:.2f} times as long"


@dataclass(frozen=True)
class Variant:
    """One graph of the model.

    Attributes:
        precision: `"fp32"`, `"int8"` or `"fp16"`.
        file: Its file in the bundle.
        providers: The ONNX Runtime execution providers it is made for.
        thresholds: One per label, tuned on this variant's own probabilities.
        fusions: The number of each fused operator in the graph; empty if nothing was fused.
        note: A remark for readers.
        rescue: Which linear layers stay in fp32 to keep within the budget; None if all are converted.

    Example:
        >>> variant = Variant("int8", "model_int8.onnx", ("CPUExecutionProvider",), (0.4, 0.5))
        >>> variant.thresholds
        (0.4, 0.5)
    """

    precision: str
    file: str
    providers: tuple[str, ...]
    thresholds: tuple[float, ...]
    fusions: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    rescue: MixedPrecision | None = None


@dataclass(frozen=True)
class SpecialTokens:
    """The token ids before and after every text, such as `[CLS]` and `[SEP]`.

    Example:
        >>> SpecialTokens(prefix=(101,), suffix=(102,)).suffix
        (102,)
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """A text with the probabilities that PyTorch gave, by label.

    Example:
        >>> Probe("late parcel", {"delivery": 0.9}).text
        'late parcel'
    """

    text: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Manifest:
    """The content of `bundle.json`.

    Attributes:
        format_version: The manifest's format; readers reject newer ones.
        labels: The labels in column order.
        max_length: The number of tokens the model reads at once, special tokens included.
        long_text: What happens to longer texts.
        special_tokens: The token ids before and after every text.
        variants: The graphs, the most exact first.
        probes: Texts with known probabilities, to check the bundle on another machine.
        thresholds_tuned: Whether the thresholds were tuned on validation data; otherwise they are 0.5.
        source: The checkpoint, versions and data that the bundle was made from.
        metrics: What training measured, by split: numbers by name, nested.
        certificate: How the graphs compare with PyTorch.
        files: Every file of the bundle except the manifest.

    Example:
        >>> from manylabel import Bundle
        >>> Bundle.open("bundle").manifest.long_text.policy
        'window'
    """

    format_version: int
    labels: tuple[str, ...]
    max_length: int
    long_text: LongText
    special_tokens: SpecialTokens
    variants: tuple[Variant, ...]
    probes: tuple[Probe, ...]
    thresholds_tuned: bool
    source: Mapping[str, Any]
    metrics: Mapping[str, Any]
    certificate: Certificate
    files: Mapping[str, FileRecord]

    def to_bytes(self) -> bytes:
        """Return the canonical form, including the digest of the rest."""
        return _with_digest(asdict(self))[0]


def read_manifest(raw: bytes, *, where: str) -> tuple[Manifest, str]:
    """Parse a manifest, and reject whatever this version does not understand completely.

    Args:
        raw: The file's bytes.
        where: Names the file in error messages.

    Returns:
        The manifest and its digest.

    Raises:
        BundleTooNew: It was written by a newer version of manylabel.
        BundleError: It is not a manifest, was changed, or contradicts itself.

    Example:
        >>> from pathlib import Path
        >>> manifest, digest = read_manifest(Path("bundle/bundle.json").read_bytes(), where="bundle/bundle.json")
        >>> manifest.format_version, len(digest)
        (1, 64)
    """
    try:
        content = json.loads(raw)
        del content["digest"]
        expected, digest = _with_digest(content)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BundleError(
            f"{where} is not a bundle's manifest: expected a JSON object with a digest. {RESTORE}"
        ) from exc
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleTooNew(
            f"{where} has format_version {version}; this manylabel reads up to {FORMAT_VERSION}. "
            "pip install --upgrade manylabel"
        )
    if raw != expected:
        raise BundleError(
            f"{where} was changed after the bundle was made: its content does not match its digest. {RESTORE}"
        )
    manifest = parse(Manifest, content, where=where)
    for fault in _contradictions(manifest):
        raise BundleError(f"{where} contradicts itself: {fault}. {RESTORE}")
    return manifest, digest


def _with_digest(content: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the canonical form of a manifest's content with its digest, and the digest."""
    digest = hashlib.sha256(_canonical(content)).hexdigest()
    return _canonical({**content, "digest": digest}), digest


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with a manifest whose fields have the right types."""
    if manifest.format_version != FORMAT_VERSION:
        yield f"there is no format_version {manifest.format_version}"
    if not manifest.labels or _has_duplicates(manifest.labels):
        yield "labels are missing or duplicated"
    if not manifest.variants or _has_duplicates([variant.precision for variant in manifest.variants]):
        yield "variants are missing or duplicated"
    if not manifest.probes or any(set(probe.probabilities) != set(manifest.labels) for probe in manifest.probes):
        yield "probes are missing, or their labels differ from the bundle's"
    if not _is_shallow(manifest.source, MAX_NESTING):
        yield f"source is nested deeper than {MAX_NESTING} levels"
    if not all(_is_numbers_by_name(numbers, MAX_NESTING) for numbers in manifest.metrics.values()):
        yield "metrics contains something other than numbers by name for each split"
    for name in manifest.files:
        if Path(name).name != name or name in ("", "..", MANIFEST):
            yield f"{name!r} is not a valid file name in a bundle"
    for name in (TOKENIZER, *(variant.file for variant in manifest.variants)):
        if name not in manifest.files:
            yield f"no file is listed as {name}"
    for variant in manifest.variants:
        yield from _variant_contradictions(variant, len(manifest.labels))
        if variant.precision not in manifest.certificate.parity:
            yield f"the certificate does not cover {variant.precision}"
    for precision, parity in manifest.certificate.parity.items():
        if precision not in PRECISIONS or set(parity.labels) != set(manifest.labels):
            yield f"the certificate of {precision} belongs to another bundle: its precision or labels differ"


def _variant_contradictions(variant: Variant, n_labels: int) -> Iterator[str]:
    if variant.precision not in PRECISIONS:
        yield f"{variant.precision!r} is not one of {', '.join(PRECISIONS)}"
    if len(variant.thresholds) != n_labels:
        yield f"{variant.precision} has {len(variant.thresholds)} thresholds for {n_labels} labels"
    if not all(0 < threshold < 1 for threshold in variant.thresholds):
        yield f"{variant.precision} has a threshold that is not between 0 and 1"


def _is_shallow(value: object, levels: int) -> bool:
    """Return whether JSON has at most this many levels of nesting."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels >= 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _is_numbers_by_name(value: object, levels: int) -> bool:
    """Return whether a value maps names to finite numbers or to further such mappings."""
    return (
        levels > 0
        and isinstance(value, dict)
        and all(is_number(each) or _is_numbers_by_name(each, levels - 1) for each in value.values())
    )


def _has_duplicates(names: tuple[str, ...] | list[str]) -> bool:
    return len(set(names)) != len(names)
