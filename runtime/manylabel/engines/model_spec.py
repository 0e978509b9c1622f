"""What the processes of an engine load, as a value that travels where a loaded classifier cannot."""

from dataclasses import dataclass, replace
from functools import lru_cache
from os import getpid
from pathlib import Path

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.variants import Precision, choose_variant
from manylabel.classifier import Classifier
from manylabel.errors import BundleError
from manylabel.frames.arrow import Form
from manylabel.inference.ort_session import Device, resolve_device
from manylabel.inference.thresholding import resolve_thresholds


@dataclass(frozen=True)
class Recipe:
    """A bundle and how it is loaded.

    Attributes:
        path: The bundle's folder, as it is found by every process; a relative one from where that process works. Of a
            bundle on the hub its commit, which every process fetches for itself.
        digest: Of the bundle that was meant.
        device: What runs.
        precision: Which variant.
        threads: Cores to use; None for all that a process is granted.
        labels: In column order.
    """

    path: str
    digest: str
    device: Device
    precision: Precision
    threads: int | None
    labels: tuple[str, ...]

    @classmethod
    def of(
        cls, bundle: Path | str, *, device: Device, precision: Precision = "auto", threads: int | None = None
    ) -> "Recipe":
        """Read a bundle's manifest here, and load nothing.

        Raises:
            InputError: There is no bundle, or no such variant in it.
            BundleError: It is damaged.
        """
        opened = Bundle.open(bundle)
        variant = choose_variant(opened, resolve_device(device), precision)
        return cls(str(opened.reference or bundle), opened.digest, device, variant.precision, threads, opened.labels)  # type: ignore[arg-type]  # a precision

    def with_threads(self, threads: int) -> "Recipe":
        """The same, on so many cores."""
        return replace(self, threads=threads)

    def checked(self, form: Form) -> Form:
        """A form whose thresholds fit the labels: told here, before any process is started.

        Raises:
            UnknownLabel: A threshold is given for a label that is not there.
            InputError: A threshold is not between 0 and 1, or there are too many or too few.
        """
        resolve_thresholds(form.thresholds, self.labels, [0.5] * len(self.labels))
        return form

    def classifier(self) -> Classifier:
        """This process's classifier: loaded by the first who asks, after any fork, and kept for all others.

        Raises:
            BundleError: Another bundle lies here than the one that was meant, or it is damaged.
            ManylabelError: It cannot be loaded.
        """
        return _loaded(self, getpid())


@lru_cache(maxsize=1)  # by the process as well: what was loaded before a fork is of no use after it
def _loaded(recipe: Recipe, process: int) -> Classifier:
    classifier = Classifier.load(recipe.path, device=recipe.device, precision=recipe.precision, threads=recipe.threads)
    if classifier.bundle.digest != recipe.digest:
        raise BundleError(
            f"{recipe.path} holds the bundle {classifier.bundle.digest[:12]} on this machine and {recipe.digest[:12]} "
            "where the work was begun. Put the same bundle at the same path everywhere."
        )
    return classifier
