"""The public methods of a classifier, and that predictions are batch-invariant."""

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.helpers.toy import LABELS, TEXTS, WORDS
from tests.runtime.conftest import Resign

from manylabel import (
    Bundle,
    BundleError,
    Classifier,
    InputError,
    InvalidText,
    Prediction,
    TextTooLong,
    UnknownLabel,
)

LONG = "the parcel was late and the courier was not very good " * 20
ANY_TEXT = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join),
    st.text(alphabet=st.characters(), max_size=50),
    st.sampled_from(["", " ", LONG, "late"]),
)


def bits(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    return scores.view(np.int32)


# Predictions


def test_predict_proba_shape(classifier: Classifier) -> None:
    for texts, rows in (("late", 1), (["late"], 1), (["late", "good"], 2), ([], 0), (TEXTS, len(TEXTS))):
        found = classifier.predict_proba(texts)
        assert found.shape == (rows, len(LABELS))
        assert found.dtype == np.float32
        assert ((found >= 0) & (found <= 1)).all()
    assert classifier.classes_.tolist() == list(LABELS)
    assert classifier.thresholds_.shape == (len(LABELS),)
    assert (classifier.device, classifier.precision) == ("cpu", "int8")


def test_toy_model_gives_different_scores(classifier: Classifier) -> None:
    """Otherwise the comparisons in this file could not fail."""
    assert classifier.predict_proba(TEXTS).std(axis=0).min() > 0.02


def test_predict_proba_predict_and_classify_agree(classifier: Classifier) -> None:
    probabilities = classifier.predict_proba(TEXTS)
    labels = classifier.predict(TEXTS, thresholds=0.5)
    predictions = classifier.classify(TEXTS, thresholds=0.5)
    assert len({tuple(each) for each in labels}) > 3
    for row, names, prediction in zip(probabilities, labels, predictions, strict=True):
        assert names == [label for label, value in zip(LABELS, row, strict=True) if value >= 0.5]
        assert set(prediction.labels) == set(names)
        assert {label: prediction.scores[label] for label in LABELS} == dict(zip(LABELS, row.tolist(), strict=True))
        assert not prediction.truncated


def test_predict_uses_bundle_thresholds_by_default(classifier: Classifier) -> None:
    own = classifier.thresholds_.tolist()
    assert classifier.predict(TEXTS) == classifier.predict(TEXTS, thresholds=own)
    assert classifier.predict(TEXTS) != classifier.predict(TEXTS, thresholds=0.5)


def test_predict_accepts_every_threshold_format(classifier: Classifier) -> None:
    assert classifier.predict("late", thresholds=0) == [list(LABELS)]
    assert classifier.predict("late", thresholds=[1, 0, 1, 0]) == [["delivery", "user experience"]]
    only = dict.fromkeys(LABELS, 1.0) | {"price": 0.0}
    assert classifier.predict("late", thresholds=only) == [["price"]]
    with pytest.raises(UnknownLabel, match="Did you mean 'delivery'"):
        classifier.predict("late", thresholds={"delivry": 0.5})
    with pytest.raises(InputError, match="between 0 and 1"):
        classifier.classify("late", thresholds=2)


def test_top_k_keeps_the_highest_scores(classifier: Classifier) -> None:
    (every,) = classifier.classify("late")
    (two,) = classifier.classify("late", top_k=2)
    assert list(two.scores.items()) == list(every.scores.items())[:2]
    assert two.labels == every.labels
    assert classifier.classify("late", top_k=99) == [every]
    for top_k in (0, -1):
        with pytest.raises(InputError, match=f"top_k is {top_k}"):
            classifier.classify("late", top_k=top_k)


def test_prediction_reports_truncation(classifier: Classifier) -> None:
    short, windows, longer = classifier.classify(["the parcel", LONG, LONG * 100])
    assert (short.n_tokens, short.truncated) == (4, False)
    assert (windows.n_tokens, windows.truncated) == (11 * 20 + 2, False)
    assert longer.truncated


@pytest.mark.parametrize("text", ["", " \n\t", "\0", "a\0b", "\ud800", "late \udfff", "💥" * 50, "\u202e\u0000\ufeff"])
def test_unusual_texts_are_predicted(classifier: Classifier, text: str) -> None:
    (prediction,) = classifier.classify(text)
    assert isinstance(prediction, Prediction)
    assert list(prediction.scores) != []
    json.dumps(prediction.scores, allow_nan=False)


@pytest.mark.parametrize("text", ["parcel late " * 900_000, "x" * 10_000_000])
def test_10_mb_text_is_truncated_and_flagged(classifier: Classifier, text: str) -> None:
    huge, small = classifier.classify([text, "late"])
    assert huge.truncated
    assert not small.truncated


@pytest.mark.parametrize("row", [0, 3, 4100])
def test_non_string_error_has_its_row(classifier: Classifier, row: int) -> None:
    texts: list[Any] = ["late"] * row + [None]
    for ask in (classifier.predict_proba, classifier.predict, classifier.classify):
        with pytest.raises(InvalidText, match=f"^text {row} is NoneType"):
            ask(texts)


@pytest.mark.parametrize("make", [tuple, np.array, lambda texts: (text for text in texts)])
def test_any_iterable_of_texts_is_accepted(classifier: Classifier, make: Callable[[Any], Any]) -> None:
    assert classifier.predict(make(TEXTS)) == classifier.predict(list(TEXTS))


def test_too_long_text_error_has_its_row(own_bundle: Path, resign: Resign) -> None:
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="error"))
    classifier = Classifier.load(own_bundle, device="cpu", threads=1)
    with pytest.raises(TextTooLong, match="text 4100 has 42 tokens; this model reads 32"):
        classifier.predict_proba(["late"] * 4100 + ["late " * 40])


# Batch invariance


@given(st.lists(ANY_TEXT, min_size=1, max_size=12))
def test_predict_proba_is_batch_invariant(classifier: Classifier, texts: list[str]) -> None:
    """Bit-identical in int8."""
    together = classifier.predict_proba(texts)
    alone = np.concatenate([classifier.predict_proba(text) for text in texts])
    np.testing.assert_array_equal(bits(together), bits(alone))


@given(st.lists(ANY_TEXT, min_size=1, max_size=12))
def test_predict_proba_is_close_across_batches_in_fp32(fp32: Classifier, texts: list[str]) -> None:
    together = fp32.predict_proba(texts)
    alone = np.concatenate([fp32.predict_proba(text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@given(st.permutations([*TEXTS[:20], LONG, "", "late", "late"]))
def test_order_does_not_matter(classifier: Classifier, texts: list[str]) -> None:
    by_text = dict(zip(texts, bits(classifier.predict_proba(texts)).tolist(), strict=True))
    in_order = sorted(texts)
    assert bits(classifier.predict_proba(in_order)).tolist() == [by_text[text] for text in in_order]


def test_predict_proba_is_repeatable(classifier: Classifier) -> None:
    for repeats in (2, 17, 300):
        found = bits(classifier.predict_proba(["the parcel was late"] * repeats))
        assert (found == bits(classifier.predict_proba("the parcel was late"))).all()


def test_predict_proba_keeps_order_beyond_one_block(classifier: Classifier) -> None:
    texts = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(i % 9)) for i in range(4096 + 50)]
    found = classifier.predict_proba(texts)
    some = [0, 1, 4094, 4095, 4096, 4097, 4145]
    np.testing.assert_array_equal(bits(found[some]), bits(classifier.predict_proba([texts[i] for i in some])))


def test_long_text_scores_are_the_maximum_of_its_windows(classifier: Classifier) -> None:
    (encoding,) = classifier.encode([LONG])
    assert len(encoding.windows) > 2
    windows = np.concatenate([classifier.score_windows([window]) for window in encoding.windows])
    assert (windows.argmax(axis=0) > 0).any()  # the first window alone would give other scores
    np.testing.assert_array_equal(classifier.predict_proba(LONG)[0], windows.max(axis=0))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_predict_proba_is_equal_for_any_thread_count(bundle: Path, classifier: Classifier, threads: int) -> None:
    other = Classifier.load(bundle, device="cpu", threads=threads)
    texts = [*TEXTS, LONG]
    np.testing.assert_array_equal(bits(other.predict_proba(texts)), bits(classifier.predict_proba(texts)))


def test_classifier_is_thread_safe(classifier: Classifier) -> None:
    texts = [*TEXTS, LONG, ""]
    expected = bits(classifier.predict_proba(texts))

    def ask(shift: int) -> bool:
        turned = texts[shift:] + texts[:shift]
        found = bits(classifier.predict_proba(turned))
        single = bits(classifier.predict_proba(texts[shift]))
        return bool((found == np.roll(expected, -shift, axis=0)).all() and (single == expected[shift]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(48)))


# Loading


def test_auto_precision_is_the_fastest_variant(bundle: Path) -> None:
    assert Classifier.load(bundle, device="cpu").precision == "int8"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_precision_can_be_requested(bundle: Path, precision: Any) -> None:
    classifier = Classifier.load(str(bundle), device="cpu", precision=precision)
    assert classifier.precision == precision
    classifier.check_probes()


def test_variants_differ_slightly(classifier: Classifier, fp32: Classifier) -> None:
    difference = np.abs(classifier.predict_proba(TEXTS) - fp32.predict_proba(TEXTS)).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "bf16"}, "has no variant 'bf16'; it has fp32, int8, fp16"),
        ({"precision": "fp16"}, "model_fp16.onnx is made for CUDAExecutionProvider, not for cpu"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
    ],
)
def test_load_errors(bundle: Path, options: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Classifier.load(bundle, **{"device": "cpu", **options})


def test_load_without_variant_for_device_error(own_bundle: Path, resign: Resign) -> None:
    def only_cuda(manifest: dict[str, Any]) -> None:
        manifest["variants"] = manifest["variants"][2:]

    with pytest.raises(InputError, match="has no variant for cpu; it has fp16"):
        Classifier.load(resign(own_bundle, only_cuda), device="cpu")


def test_load_reads_only_needed_files(own_bundle: Path) -> None:
    """A changed byte of a variant that is not loaded is detected by verifying, not by loading."""
    content = bytearray((own_bundle / "model.onnx").read_bytes())
    content[100] ^= 1
    (own_bundle / "model.onnx").write_bytes(content)
    Classifier.load(own_bundle, device="cpu", precision="int8").predict("late")
    with pytest.raises(BundleError, match="SHA-256"):
        Classifier.load(own_bundle, device="cpu", precision="fp32")
    with pytest.raises(BundleError, match="SHA-256"):
        Bundle.open(own_bundle).verify()


def test_loaded_classifier_does_not_need_its_folder(own_bundle: Path) -> None:
    classifier = Classifier.load(own_bundle, device="cpu")
    expected = classifier.predict_proba(TEXTS)
    for file in own_bundle.iterdir():
        file.write_bytes(b"")
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), expected)


# Pickling


def test_classifier_pickles_by_path(bundle: Path, monkeypatch: pytest.MonkeyPatch, fp32: Classifier) -> None:
    monkeypatch.chdir(bundle.parent)
    packed = pickle.dumps(Classifier.load(bundle.name, device="cpu", precision="fp32", threads=1))
    monkeypatch.chdir("/")
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert (again.precision, again.device) == ("fp32", "cpu")
    np.testing.assert_allclose(again.predict_proba(TEXTS), fp32.predict_proba(TEXTS), atol=1e-6)


def test_unpickled_classifier_checks_the_digest(own_bundle: Path, resign: Resign) -> None:
    packed = pickle.dumps(Classifier.load(own_bundle, device="cpu", threads=1))
    resign(own_bundle, lambda manifest: manifest["source"].update(new=1))
    with pytest.raises(BundleError, match=r"has the digest [0-9a-f]{64}; expected [0-9a-f]{64}"):
        pickle.loads(packed)


# Probes


def test_check_probes_compares_with_pytorch(own_bundle: Path, resign: Resign) -> None:
    def shift(manifest: dict[str, Any]) -> None:
        manifest["probes"][3]["probabilities"]["price"] += 0.3

    resign(own_bundle, shift)
    classifier = Classifier.load(own_bundle, device="cpu", threads=1)
    with pytest.raises(
        BundleError, match=r"model_int8.onnx gives 0\.\d+ for 'price' where PyTorch gave 0\.\d+ \(text 'I am"
    ):
        classifier.check_probes()
