"""Drift detection: no alarm on texts of the same kind, whatever their number, and an alarm on others."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import toy
from tests.helpers.toy import LABELS, TEXTS
from tests.runtime.conftest import Cli, Resign

from manylabel import Bundle, BundleError, Classifier, InputError
from manylabel.drift import DriftMonitor, ScoreBaseline
from manylabel.drift.baseline import MIN_BIN_WIDTH
from manylabel.drift.report import chi_squared, likely_counts, psi, psi_by_chance

NAMES = tuple(f"label {number}" for number in range(28))
FP32 = ("--precision", "fp32")
"""The variant that the baseline's scores come from; on 60 texts the toy model's int8 may differ by more than chance."""
RATES = np.linspace(0.5, 12, len(NAMES))


def draw(rng: np.random.Generator, n: int, shift: float = 0.0) -> Any:
    """Return scores like those of a model with 28 labels, from common to very rare."""
    return rng.beta(0.5 + shift, RATES, (n, len(NAMES))).astype(np.float32)


def monitor(reference: Any, *, window: int = 10**9) -> DriftMonitor:
    thresholds = np.full(len(NAMES), 0.5)
    return DriftMonitor(ScoreBaseline.from_scores(NAMES, reference, thresholds), NAMES, thresholds, window=window)


def drifted(reference: Any, found: Any) -> tuple[str, ...]:
    watched = monitor(reference)
    watched.update(found)
    return watched.report().drifted


@pytest.mark.parametrize("n", [1, 10, 100, 1000, 20_000])
def test_no_drift_on_texts_of_the_same_kind(n: int) -> None:
    """The false-alarm rate is 0.001 for all labels together, so 100 reports have at most one."""
    rng = np.random.default_rng(n)
    looks = 100 if n < 10_000 else 10
    assert sum(bool(drifted(draw(rng, 2000), draw(rng, n))) for _ in range(looks)) <= 1


@pytest.mark.parametrize("n", [100, 1000, 20_000])
def test_drift_on_texts_of_another_kind(n: int) -> None:
    rng = np.random.default_rng(n)
    assert len(drifted(draw(rng, 2000), draw(rng, n, shift=1))) > len(NAMES) / 2


def test_drift_names_the_only_changed_label() -> None:
    rng = np.random.default_rng(0)
    found = draw(rng, 2000)
    found[:200, 3] = 0.99
    assert drifted(draw(rng, 2000), found) == (NAMES[3],)


def test_small_change_is_no_drift_even_with_many_texts() -> None:
    """A shift of 0.002 on 200,000 texts is statistically significant, but too small to matter."""
    rng = np.random.default_rng(0)
    reference = draw(rng, 50_000)
    watched = monitor(reference)
    watched.update(np.repeat(np.clip(reference + 0.002, 0, 1).astype(np.float32), 4, axis=0))
    assert not any(each.scores_drifted for each in watched.report().labels)


def test_drift_figures_match_the_texts() -> None:
    rng = np.random.default_rng(1)
    reference, found = draw(rng, 500), draw(rng, 300)
    watched = monitor(reference)
    for part in np.array_split(found, 7):
        watched.update(part)
    report = watched.report()
    assert (report.texts, report.reference_texts) == (300, 500)
    for column, each in enumerate(report.labels):
        assert each.label == NAMES[column]
        assert each.rate == (found[:, column] >= 0.5).mean()
        assert each.expected_rate == (reference[:, column] >= 0.5).mean()
        assert each.likely[0] <= each.expected_rate <= each.likely[1]


def test_no_drift_without_texts() -> None:
    report = monitor(draw(np.random.default_rng(0), 100)).report()
    assert (report.texts, report.labels, report.drifted) == (0, (), ())


def test_drift_monitor_forgets_old_texts() -> None:
    rng = np.random.default_rng(2)
    watched = monitor(draw(rng, 2000), window=500)
    watched.update(draw(rng, 5000, shift=1))
    assert watched.report().drifted
    assert 500 <= watched.report().texts <= 1000
    watched.update(draw(rng, 1000))
    assert not watched.report().drifted
    assert 500 <= watched.report().texts <= 1000


def test_drift_monitor_is_thread_safe() -> None:
    rng = np.random.default_rng(3)
    watched, parts = monitor(draw(rng, 100)), np.array_split(draw(rng, 4000), 400)
    threads = [
        threading.Thread(target=lambda some=parts[at::8]: [watched.update(each) for each in some]) for at in range(8)
    ]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watched.report().texts == 4000


def test_drift_monitor_rejects_wrong_shape() -> None:
    watched = monitor(draw(np.random.default_rng(0), 100))
    for wrong in (np.zeros((3, 27), np.float32), np.zeros(28, np.float32)):
        with pytest.raises(InputError, match=r"expected \(n_texts, 28\)"):
            watched.update(wrong)
    with pytest.raises(InputError, match="window is 0 texts"):
        monitor(draw(np.random.default_rng(0), 100), window=0)


# The baseline


def test_histogram_edges_and_counts() -> None:
    scores = draw(np.random.default_rng(4), 3000)
    reference = ScoreBaseline.from_scores(NAMES, scores, np.full(len(NAMES), 0.5))
    for column, label in enumerate(NAMES):
        histogram = reference.labels[label]
        assert sum(histogram.counts) == 3000
        assert np.diff([0, *histogram.edges]).min(initial=1) >= MIN_BIN_WIDTH
        assert list(histogram.counts[1:]) == [
            int(((scores[:, column] >= low) & (scores[:, column] < high)).sum())
            for low, high in zip(histogram.edges, (*histogram.edges[1:], np.inf), strict=True)
        ]
    assert len(reference.labels[NAMES[0]].edges) > 5


def test_bundle_has_validation_histograms(bundle: Path, fp32: Classifier) -> None:
    reference = ScoreBaseline.read(Bundle.open(bundle))
    assert reference.texts == len(TEXTS)
    found = fp32.predict_proba(TEXTS)
    for column, label in enumerate(LABELS):
        assert reference.labels[label].positives == (found[:, column] >= fp32.thresholds_[column]).sum()


def test_no_drift_between_precisions(bundle: Path, fp32: Classifier) -> None:
    texts = [text for text, _ in toy.examples(600, seed=1)]
    baseline = ScoreBaseline.from_scores(LABELS, fp32.predict_proba(texts), fp32.thresholds_)
    int8 = Classifier.load(bundle, device="cpu", precision="int8", threads=1)
    monitor = DriftMonitor(baseline, LABELS, int8.thresholds_)
    monitor.update(int8.predict_proba(texts))
    assert not monitor.report().drifted


def test_bundle_without_scores_error(own_bundle: Path, resign: Resign) -> None:
    (own_bundle / "scores.json").unlink()
    manifest = json.loads((own_bundle / "bundle.json").read_text())
    del manifest["files"]["scores.json"], manifest["digest"]
    (own_bundle / "bundle.json").write_text(json.dumps({**manifest, "digest": ""}))
    with pytest.raises(InputError, match=r"has no scores\.json: .* Re-export it"):
        DriftMonitor.from_classifier(Classifier.load(resign(own_bundle), threads=1))


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not valid JSON"), ('{"texts": 1, "labels": {}}', "labels of")]
)
def test_damaged_scores_are_rejected(own_bundle: Path, resign: Resign, content: str, message: str) -> None:
    (own_bundle / "scores.json").write_text(content)
    with pytest.raises(BundleError, match=message):
        DriftMonitor.from_classifier(Classifier.load(resign(own_bundle), threads=1))


# The statistics


def test_psi_is_0_for_equal_histograms_and_grows() -> None:
    one = np.array([500, 300, 200])
    assert psi(one, 10 * one) == pytest.approx(0, abs=1e-5)
    assert psi(one, one[::-1]) == pytest.approx(0.3 * math.log(2.5) * 2, rel=1e-2)
    assert psi(one, np.array([0, 0, 1000])) > 5


def test_chi_squared_matches_tables() -> None:
    for degrees, share, value in ((1, 0.95, 3.841), (4, 0.99, 13.277), (9, 0.999, 27.877), (11, 0.95, 19.675)):
        assert chi_squared(degrees, share) == pytest.approx(value, rel=0.03 if degrees == 1 else 0.01)
    assert psi_by_chance(1, 100, 100, 0.01) == 0


def test_predictive_interval_coverage() -> None:
    """Also for rates that are estimated from 400 texts, the range has the requested coverage."""
    rng = np.random.default_rng(0)
    for rate, texts in ((0.3, 50), (0.01, 1000), (0.5, 400)):
        having, counts = rng.binomial(400, rate, 3000), rng.binomial(texts, rate, 3000)
        between = [likely_counts(one, 400, texts, 0.1) for one in having]
        outside = np.mean([not low <= count <= high for (low, high), count in zip(between, counts, strict=True)])
        assert 0.04 < outside < 0.12, (rate, texts, outside)


def test_predictive_interval_for_few_and_many_texts() -> None:
    assert likely_counts(1, 1000, 1, 1e-4) == (0, 1)
    assert likely_counts(0, 1000, 10, 0.01) == (0, 0)
    low, high = likely_counts(500, 1000, 1_000_000, 0.05)
    assert (low / 1e6, high / 1e6) == pytest.approx(
        (0.469, 0.531), abs=1e-3
    )  # the uncertainty of a rate from 1,000 texts


# The command


@pytest.fixture(scope="module")
def scored(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that writes texts to a file and scores them with `manylabel score`."""
    pytest.importorskip("pyarrow")
    from click.testing import CliRunner

    from manylabel.cli.main import main

    folder = tmp_path_factory.mktemp("scored")

    def score(texts: Any, output: str, *options: str) -> Path:
        source = folder / "texts.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        arguments = ["score", str(bundle), str(source), "--output", str(folder / output), "--force", *options]
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code in (0, 4), done.output
        return folder / output

    return score


@pytest.mark.parametrize("output", ["same.parquet", "same.csv", "same.jsonl", "parts"])
def test_drift_command_without_drift(cli: Cli, bundle: Path, scored: Any, output: str) -> None:
    done = cli("drift", bundle, scored([*TEXTS, None], output, *FP32, "--shard-rows", "25"), *FP32, "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["drifted"], document["texts"]) == (0, [], len(TEXTS))


def test_drift_command_exit_code_1(cli: Cli, bundle: Path, scored: Any) -> None:
    other = scored(["sehr sehr gut"] * 300, "other.parquet")
    done = cli("drift", bundle, other)
    assert done.exit_code == 1
    first, _, *labels, last = done.stdout.splitlines()
    assert first == f"300 texts compared with {len(TEXTS)} validation texts"
    assert sum(line.startswith("!") for line in labels) == int(last.split()[0]) > 0
    both = json.loads(cli("drift", bundle, other, scored(TEXTS, "same.parquet"), "--json").stdout)
    assert both["texts"] == 300 + len(TEXTS)


def test_drift_prefix_option(cli: Cli, bundle: Path, scored: Any) -> None:
    path = scored(TEXTS, "prefixed.parquet", "--prefix", "my_", *FP32)
    assert cli("drift", bundle, path, "--prefix", "my_", *FP32).exit_code == 0
    done = cli("drift", bundle, path)
    assert done.exit_code == 2
    assert "has no column 'p_billing', one of 4 that are needed" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.parquet", None, "cannot be read: No such file or directory"),
        ("none", None, "cannot be read: No such file or directory"),
        ("broken.parquet", b"no parquet", "is not a Parquet file that can be read"),
        ("some.txt", b"x", "is not a .parquet, .csv or .jsonl file"),
        ("empty.csv", b"p_billing,p_delivery,p_price,p_user experience\n", "there is no scored row"),
    ],
)
def test_drift_invalid_file_error(
    cli: Cli, bundle: Path, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = cli("drift", bundle, tmp_path / name)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
