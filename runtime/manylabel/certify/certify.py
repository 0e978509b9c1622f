"""A bundle's variants beside its fp32 graph, on this machine."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.certificate import Budget, Certificate, Parity
from manylabel.bundle.variants import Precision, variants_for
from manylabel.certify.parity import Answers, compare, scored_alone
from manylabel.classifier import Classifier
from manylabel.errors import InputError
from manylabel.inference.ort_session import Device, resolve_device
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
    """Compare the variants that are meant for a device with the fp32 graph on the CPU.

    Args:
        bundle: It has an fp32 graph.
        texts: At least one.
        data: What texts these are.
        targets: 0, 1, or NaN for unknown, shape `(len(texts), n_labels)`; None where they have no labels.
        budget: Kept in the certificate; nothing is refused here.
        device: Where the variants run.
        threads: Cores to use; None takes all that this process may use.

    Raises:
        InputError: There is no fp32 graph, or no text.
    """
    if REFERENCE not in bundle.variants:
        raise InputError(
            f"{bundle.path} has no fp32 graph to compare with; it has {', '.join(bundle.variants)}. Its own "
            "certificate is against PyTorch, see manylabel inspect. To certify anew, export fp32, too (--precision)."
        )
    if not texts:
        raise InputError("there are no texts to compare on.")
    reference = Classifier.load(bundle.path, device="cpu", precision=REFERENCE, threads=threads)
    expected = Answers(reference.predict_proba(texts), reference.thresholds_)
    return Certificate(
        reference=f"the bundle's {REFERENCE} graph",
        texts=len(texts),
        data=data,
        device=resolve_device(device),
        machine=this_machine(),
        parity={
            variant.precision: _parity(
                Classifier.load(bundle.path, device=device, precision=variant.precision, threads=threads),  # type: ignore[arg-type]  # a precision
                texts,
                expected,
                targets,
            )
            for variant in variants_for(bundle, resolve_device(device))
        },
        budget=budget,
        refused={},
    )


def _parity(
    classifier: Classifier, texts: Sequence[str], expected: Answers, targets: NDArray[np.float32] | None
) -> Parity:
    found = Answers(classifier.predict_proba(texts), classifier.thresholds_)
    alone = scored_alone(texts, found.probabilities, classifier.predict_proba)
    return compare(expected, found, classifier.bundle.labels, alone=alone, targets=targets)
