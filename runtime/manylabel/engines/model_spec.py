"""The model specification: what the processes of an engine load. It is pickled where a loaded classifier cannot be."""

from dataclasses import dataclass, replace
from functools import lru_cache
from os import getpid
from pathlib import Path

from manylabel.bundle.variants import Precision, choose_variant
from manylabel.classifier import Classifier
from manylabel.errors import BundleError
from manylabel.frames.arrow import FrameOptions
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import Device, resolve_device
from manylabel.inference.thresholding import resolve_thresholds


@dataclass(frozen=True)
class ModelSpec:
    """A bundle and how it is loaded.

    Attributes:
        path: The bundle's folder, the same path in every process; a relative path starts at the process's working
            folder. For a bundle on the Hub, its commit, which every process downloads for itself.
        digest: The digest of the expected bundle.
        device: `"cpu"`, `"cuda"` or `"auto"`.
        precision: The variant that scores.
        threads: Cores to use; None for all that a process is granted.
        labels: The labels in column order.

    Example:
        >>> spec = ModelSpec.from_bundle("bundle", device="cpu").with_threads(2)
        >>> spec.load_classifier().threads
        2
    """

    path: str
    digest: str
    device: Device
    precision: Precision
    threads: int | None
    labels: tuple[str, ...]

    @classmethod
    def from_bundle(
        cls, bundle: Path | str, *, device: Device, precision: Precision = "auto", threads: int | None = None
    ) -> "ModelSpec":
        """Read a bundle's manifest in this process, without loading the model.

        Raises:
            InputError: There is no bundle, or it has no such variant.
            BundleError: The bundle is damaged.
        """
        opened = open_bundle(bundle)
        variant = choose_variant(opened, resolve_device(device), precision)
        return cls(
            path=str(opened.reference or bundle),
            digest=opened.digest,
            device=device,
            precision=variant.precision,  # type: ignore[arg-type]  # a variant's name
            threads=threads,
            labels=opened.labels,
        )

    def with_threads(self, threads: int) -> "ModelSpec":
        """Return the specification with another number of cores."""
        return replace(self, threads=threads)

    def check_thresholds(self, options: FrameOptions) -> None:
        """Refuse thresholds that do not fit the labels, before any process is started.

        Raises:
            UnknownLabel: A threshold names a label that does not exist.
            InputError: A threshold is not between 0 and 1, or there are too many or too few.
        """
        resolve_thresholds(options.thresholds, self.labels, [0.5] * len(self.labels))

    def load_classifier(self) -> Classifier:
        """Return this process's classifier, which the first call loads (after any fork) and the others reuse.

        Raises:
            BundleError: The bundle on this machine differs from the expected one, or is damaged.
            ManylabelError: It cannot be loaded.
        """
        return _load(self, getpid())


@lru_cache(maxsize=1)  # the process is part of the key: a session loaded before a fork is useless after it
def _load(spec: ModelSpec, process: int) -> Classifier:
    classifier = Classifier.load(spec.path, device=spec.device, precision=spec.precision, threads=spec.threads)
    if classifier.bundle.digest != spec.digest:
        raise BundleError(
            f"{spec.path} holds the bundle {classifier.bundle.digest[:12]} on this machine and {spec.digest[:12]} "
            "on the one that started the run. Put the same bundle at the same path everywhere."
        )
    return classifier
