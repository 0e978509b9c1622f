"""Certify a bundle: compare its variants with its fp32 graph on this machine."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.certificate import Budget, Certificate, Parity
from manylabel.bundle.variants import Precision, variants_for
from manylabel.certify.parity import VariantScores, check_batch_invariance, compute_parity
from manylabel.classifier import Classifier
from manylabel.errors import InputError
from manylabel.inference.ort_loader import Device, resolve_device
from manylabel.system.hardware_info import this_machine

REFERENCE: Precision = "fp32"


def certify(
    bundle: Bundle,
    texts: Sequence[str],
    *,
    data: str,
    targets: NDArray[np.float32] | None = None,
    budget: Budget | None = None,
    device: Device = "auto",
    threads: int | None = None,
) -> Certificate:
    """Compare the variants for a device with the fp32 graph on the CPU.

    Args:
        bundle: A bundle with an fp32 graph.
        texts: At least one text.
        data: A description of the texts, for the certificate.
        targets: 0, 1, or NaN for unknown, shape `(len(texts), n_labels)`; `None` if the texts are unlabelled.
        budget: Recorded in the certificate, and not enforced here.
        device: The device the variants run on.
        threads: CPU cores to use; `None` for all available cores.

    Raises:
        InputError: The bundle has no fp32 graph, or there are no texts.

    Example:
        >>> from manylabel import Bundle
        >>> certificate = certify(Bundle.open("bundle"), ["The parcel was late."], data="one text", device="cpu")
        >>> sorted(certificate.parity), certificate.parity["fp32"].max_difference
        (['fp32', 'int8'], 0.0)
    """
    if REFERENCE not in bundle.variants:
        raise InputError(
            f"{bundle.path} has no fp32 graph to compare with; it has {', '.join(bundle.variants)}. Its own "
            "certificate compares with PyTorch: manylabel inspect. To certify here, re-export with fp32 (--precision)."
        )
    if not texts:
        raise InputError("there are no texts to compare on.")
    classifier = Classifier.load(bundle.path, device="cpu", precision=REFERENCE, threads=threads)
    reference = VariantScores(classifier.predict_proba(texts), classifier.thresholds_)
    resolved = resolve_device(device)
    return Certificate(
        reference=f"the bundle's {REFERENCE} graph",
        texts=len(texts),
        data=data,
        device=resolved,
        machine=this_machine(),
        parity={
            variant.precision: _measure_parity(
                Classifier.load(bundle.path, device=device, precision=variant.precision, threads=threads),  # type: ignore[arg-type]  # a precision
                texts,
                reference,
                targets,
            )
            for variant in variants_for(bundle, resolved)
        },
        budget=budget,
        refused={},
    )


def _measure_parity(
    classifier: Classifier, texts: Sequence[str], reference: VariantScores, targets: NDArray[np.float32] | None
) -> Parity:
    variant = VariantScores(classifier.predict_proba(texts), classifier.thresholds_)
    invariance = check_batch_invariance(texts, variant.probabilities, classifier.predict_proba)
    return compute_parity(reference, variant, classifier.bundle.labels, batch_invariance=invariance, targets=targets)
