"""What `bundle.json` says, and the one form in which it is written.

The canonical form carries a digest of the rest, so that no byte of it can change unseen. Knows nothing of folders.
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
ANEW = "Fetch the bundle anew, or make it anew with manylabel export."
PRECISIONS = ("fp32", "int8", "fp16")
LEVELS = 32
"""How deep what has no form of its own may be nested: far deeper than any is, and not too deep to be walked through."""


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Rescue:
    """How a variant was brought within its budget.

    Attributes:
        reason: What was beyond it.
        kept: The products that were left in fp32, the most harmful first.
        products: How many there are.
        slowdown: How many times as long it takes for it, measured on a few of the texts; None where its device was not
            at hand.
    """

    reason: str
    kept: tuple[str, ...]
    products: int
    slowdown: float | None

    @property
    def cost(self) -> str:
        """The time that it takes for it, in words."""
        return "its speed was not measured" if self.slowdown is None else f"it takes {self.slowdown:.2f} times as long"


@dataclass(frozen=True)
class Variant:
    """One graph of the model.

    Attributes:
        precision: `"fp32"`, `"int8"` or `"fp16"`.
        file: Its file in the bundle.
        providers: ONNX Runtime's execution providers it is meant for.
        thresholds: Per label, tuned on this variant's own probabilities.
        fusions: Fused operators in the graph and how many; empty where none were fused.
        note: What a reader should know of this graph.
        rescue: None where it is within its budget as it is.
    """

    precision: str
    file: str
    providers: tuple[str, ...]
    thresholds: tuple[float, ...]
    fusions: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    rescue: Rescue | None = None


@dataclass(frozen=True)
class SpecialTokens:
    """The ids around a text, such as `[CLS]` and `[SEP]`."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """A text with the probabilities that PyTorch gave, by label name."""

    text: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Manifest:
    """What `bundle.json` holds.

    Attributes:
        format_version: Of the manifest; a reader refuses newer ones.
        labels: In column order.
        max_length: Tokens the model reads at once, special ones included.
        long_text: What happens to longer texts.
        special_tokens: The ids around a text.
        variants: The graphs, the most exact first.
        probes: Texts with known answers, to check a machine by.
        thresholds_tuned: Whether thresholds come from validation data; else they are 0.5.
        source: Checkpoint, versions and data that the bundle was made from.
        metrics: By split, as training measured them: figures by name, and by name again.
        certificate: How the graphs compare with PyTorch.
        files: Every file of the bundle but the manifest.
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
        """The canonical form, with the digest of the rest."""
        return _signed(asdict(self))[0]


def read_manifest(raw: bytes, *, where: str) -> tuple[Manifest, str]:
    """Read a manifest, refusing what this version cannot read exactly as it was meant.

    Args:
        raw: A file's bytes.
        where: Names the file in messages.

    Returns:
        What it says, and its digest.

    Raises:
        BundleTooNew: A later version wrote it.
        BundleError: It is no manifest, was changed, or contradicts itself.
    """
    try:
        content = json.loads(raw)
        del content["digest"]
        expected, digest = _signed(content)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BundleError(f"{where} is not a bundle's manifest: no JSON object with a digest. {ANEW}") from exc
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleTooNew(
            f"{where} has format_version {version}; this manylabel reads up to {FORMAT_VERSION}. "
            "pip install --upgrade manylabel"
        )
    if raw != expected:
        raise BundleError(f"{where} was changed after the bundle was made: its digest does not fit. {ANEW}")
    manifest = parse(Manifest, content, where=where)
    for fault in _contradictions(manifest):
        raise BundleError(f"{where} contradicts itself: {fault}. {ANEW}")
    return manifest, digest


def _signed(content: Mapping[str, Any]) -> tuple[bytes, str]:
    """The canonical form of a manifest's content with its digest, and the digest."""
    digest = hashlib.sha256(_canonical(content)).hexdigest()
    return _canonical({**content, "digest": digest}), digest


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What a well-formed manifest must not say all the same."""
    if manifest.format_version != FORMAT_VERSION:
        yield f"there was never a format_version {manifest.format_version}"
    if not manifest.labels or _twice(manifest.labels):
        yield "labels are absent or come twice"
    if not manifest.variants or _twice([variant.precision for variant in manifest.variants]):
        yield "variants are absent or come twice"
    if not manifest.probes or any(set(probe.probabilities) != set(manifest.labels) for probe in manifest.probes):
        yield "probes are absent, or their labels are not the bundle's"
    if not _is_shallow(manifest.source, LEVELS):
        yield f"source is nested deeper than {LEVELS} levels"
    if not all(_are_figures(figures, LEVELS) for figures in manifest.metrics.values()):
        yield "metrics holds something else than figures by name, a split each"
    for name in manifest.files:
        if Path(name).name != name or name in ("", "..", MANIFEST):
            yield f"a bundle's file cannot be called {name!r}"
    for name in (TOKENIZER, *(variant.file for variant in manifest.variants)):
        if name not in manifest.files:
            yield f"no file is listed as {name}"
    for variant in manifest.variants:
        yield from _contradictions_of(variant, len(manifest.labels))
        if variant.precision not in manifest.certificate.parity:
            yield f"the certificate does not speak of {variant.precision}"
    for precision, parity in manifest.certificate.parity.items():
        if precision not in PRECISIONS or set(parity.labels) != set(manifest.labels):
            yield f"the certificate of {precision} is not of this bundle: its precision or its labels are others"


def _contradictions_of(variant: Variant, n_labels: int) -> Iterator[str]:
    if variant.precision not in PRECISIONS:
        yield f"{variant.precision!r} is not one of {', '.join(PRECISIONS)}"
    if len(variant.thresholds) != n_labels:
        yield f"{variant.precision} has {len(variant.thresholds)} thresholds for {n_labels} labels"
    if not all(0 < threshold < 1 for threshold in variant.thresholds):
        yield f"{variant.precision} has a threshold that is not between 0 and 1"


def _is_shallow(value: object, levels: int) -> bool:
    """Whether JSON is nested in no more than so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels >= 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _are_figures(value: object, levels: int) -> bool:
    """Whether it is numbers by name, which a float can hold, or again such mappings."""
    return (
        levels > 0
        and isinstance(value, dict)
        and all(is_number(each) or _are_figures(each, levels - 1) for each in value.values())
    )


def _twice(names: tuple[str, ...] | list[str]) -> bool:
    return len(set(names)) != len(names)
