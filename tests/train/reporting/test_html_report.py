"""The HTML report: correct figures, escaped texts and names, and one page of bounded size."""

import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy
from tests.helpers.pages import HOSTILE, content, scored

from manylabel import Bundle
from manylabel.errors import CheckpointError
from manylabel_export.pipeline import export
from manylabel_train.cli.review import report as command
from manylabel_train.data.label_review import LabelSuggestion, as_document, write_review
from manylabel_train.data.training_run import read_run
from manylabel_train.evaluation.metrics import per_label_metrics
from manylabel_train.reporting.heldout_scores import HeldOutScores, read_heldout_scores
from manylabel_train.reporting.html_report import ReportContent, render_report
from manylabel_train.reporting.report_data import (
    compute_calibration_bins,
    compute_cooccurrence,
    compute_label_metrics,
    find_worst_errors,
    read_learning_curves,
)
from manylabel_train.reporting.run_report import write_report
from manylabel_train.reporting.svg_charts import round_ticks
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Parses a page into tags, ids and links; checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attributes)
        assert len(values) == len(attributes)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [value or "" for name, value in attributes if name in {"href", "src", "xlink:href"}]
        self.handlers += [name for name in values if name.startswith("on")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def checked(page: str) -> Page:
    """Check that a page contains no scripts and loads nothing; return it parsed."""
    parsed = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(parsed.tags)
    assert parsed.handlers == []
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)
    assert "url(" not in page
    assert "@import" not in page
    page.encode("utf-8")
    return parsed


# Report data


def test_pr_curve_contains_threshold_point() -> None:
    found = scored(400, seed=5)
    for one in compute_label_metrics(found, ("a", "b", "c"), (0.3, 0.5, 0.7)):
        at = per_label_metrics(found.scores, found.targets, ("a", "b", "c"), (0.3, 0.5, 0.7))[one.label]
        assert (one.precision, one.recall, one.f1, one.support) == tuple(at.values())
        points = list(zip(one.recalls.tolist(), one.precisions.tolist(), strict=True))
        assert any(point == pytest.approx((one.recall, one.precision)) for point in points)
        assert points == sorted(points, key=lambda point: (point[0], -point[1]))
        assert points[-1][0] == 1
        assert len(points) <= 61


def test_pr_curve_of_rare_label() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.1]], dtype=np.float32)
    targets = np.array([[0], [1], [0], [1], [0]], dtype=np.float32)
    (one,) = compute_label_metrics(HeldOutScores("test", scores, targets), ("a",), (0.65,))
    assert one.recalls.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert one.precisions == pytest.approx([0.0, 1 / 2, 1 / 3, 1 / 2])


def test_unknown_labels_are_in_no_report_figure() -> None:
    whole = scored(80)
    more = HeldOutScores(
        "test",
        np.vstack([whole.scores, np.ones((5, 3))]).astype(np.float32),
        np.vstack([whole.targets, np.full((5, 3), np.nan)]),
    )
    for one, other in zip(*(compute_label_metrics(each, "abc", (0.5,) * 3) for each in (whole, more)), strict=True):
        assert (one.f1, one.average_precision, one.known, one.predicted) == (
            other.f1,
            other.average_precision,
            80,
            other.predicted,
        )
        np.testing.assert_array_equal(one.negative_scores, other.negative_scores)
    assert compute_calibration_bins(whole) == compute_calibration_bins(more)
    assert len(find_worst_errors(replace(more, texts=("x",) * 85), "abc", (0.5,) * 3)) == len(
        find_worst_errors(whole, "abc", (0.5,) * 3)
    )


def test_report_ece_matches_definition() -> None:
    scores = np.full((300, 3), 0.8, dtype=np.float32)
    calibrated, overconfident = np.arange(300) % 5 > 0, np.arange(300) % 2 > 0
    targets = np.stack([calibrated, overconfident, np.full(300, np.nan)], axis=1).astype(np.float32)
    errors = [
        each.calibration_error
        for each in compute_label_metrics(HeldOutScores("test", scores, targets), ("a", "b", "c"), (0.5,) * 3)
    ]
    assert errors == [pytest.approx(0, abs=1e-6), pytest.approx(0.3, abs=0.02), pytest.approx(np.nan, nan_ok=True)]


def test_co_occurrence_is_share_of_row() -> None:
    having = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(compute_cooccurrence(having), [[1, 0.5, 0], [1, 1, 0], [0, 0, 0]])


def test_most_confident_errors_come_first() -> None:
    scores = np.array([[0.9, 0.4], [0.6, 0.01], [0.2, 0.9], [0.1, 0.02], [0.95, 0.97]], dtype=np.float32)
    targets = np.array([[0, 0], [1, 1], [0, 1], [0, 1], [1, 0]], dtype=np.float32)
    found = find_worst_errors(HeldOutScores("test", scores, targets, ("1", "2", "3", "4", "5")), ("a", "b"), (0.5, 0.5))
    assert [one.text for one in found] == ["2", "5", "4", "1"]
    assert (found[0].labels, found[0].missed, found[0].spurious) == (("a", "b"), {"b": pytest.approx(0.01)}, {})
    assert found[1].spurious == {"b": pytest.approx(0.97)}


@pytest.mark.parametrize(("low", "high"), [(0.0544, 0.151), (0.394, 0.602), (0, 0), (5, 5), (0.1, 12.3), (-1, 1)])
def test_axis_ticks_are_round_and_enclose_values(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 8
    assert all(len(f"{tick:g}") <= 6 for tick in ticks)


def test_learning_curves_from_the_log() -> None:
    log = [
        {"epoch": 0.5, "loss": 0.7},
        {"epoch": 1.0, "eval_loss": 0.5, "eval_macro_f1": 0.3, "eval_hamming_loss": 0.1},
        {"epoch": 1.5, "loss": None},
        {"epoch": 2.0, "eval_loss": 0.6, "eval_macro_f1": 0.2, "eval_hamming_loss": 0.2},
        {"train_runtime": 3.0},
    ]
    found = read_learning_curves({"log": log, "recipe": {"best_by": "macro_f1"}})
    assert found is not None
    assert (found.training_loss, found.macro_f1, found.best_epoch) == ([(0.5, 0.7)], [(1, 0.3), (2, 0.2)], 1)
    assert read_learning_curves({}) is None


# The page


def test_report_escapes_hostile_texts_and_names() -> None:
    labels = ["<script>document.title='owned'</script>", 'a"b\' onload="x', "n" * 5000]
    review = [LabelSuggestion(3, "train", HOSTILE[0], (labels[0],), (), {}, {labels[0]: 0.5})]
    details = {"origin": {"model": "<b>x</b>"}, "log": [], "recipe": {"<i>": ["</dl>", None, {"x": HOSTILE[1]}]}}
    page = render_report(content(scored(texts=HOSTILE), labels, review=tuple(review), details=details))
    checked(page)
    assert "owned" in page
    assert html.escape(HOSTILE[2]) in page
    assert "49" not in re.findall(r"\{\{.*?\}\}", page)
    assert "a\ufffdb" in page
    assert "\x00" not in page
    assert "\x07" not in page
    assert len(page) < 400_000
    assert "Content-Security-Policy\" content=\"default-src 'none'" in page


@pytest.mark.parametrize("n", [1, 2, 200, 1500])
def test_report_size_is_bounded_for_any_number_of_labels(n: int) -> None:
    page = render_report(content(scored(40, n)))
    checked(page)
    assert len(page) < 1_500_000
    assert page.count('class="card"') <= 48


def test_report_of_uninformative_splits() -> None:
    for targets in (np.full((4, 2), np.nan), np.zeros((4, 2)), np.ones((4, 2)), np.array([[1, np.nan]] * 4)):
        checked(
            render_report(
                content(
                    HeldOutScores(
                        "validation", np.full((4, 2), 0.4, np.float32), targets.astype(np.float32), ("x",) * 4
                    )
                )
            )
        )
    empty = render_report(ReportContent("model", ("a", "b"), (0.5, 0.5)))
    checked(empty)
    assert "no labelled texts were given" in empty


def test_report_summarises_findings() -> None:
    truth = np.zeros((200, 4), dtype=np.float32)
    truth[:40, 0], truth[:40, 1], truth[:40, 2], truth[:3, 3] = 1, 1, 1, 1
    scores = np.full((200, 4), 0.1, dtype=np.float32)
    scores[:40, 0], scores[:100, 1], scores[:10, 2], scores[:3, 3] = 0.9, 0.9, 0.9, 0.9
    page = render_report(content(HeldOutScores("test", scores, truth), ("good", "often", "seldom", "rare")))
    findings = page[page.index('class="findings"') : page.index("</ul>", page.index('class="findings"'))]
    assert [re.sub(r"<[^>]+>|, so that.*?:", "", line).split() for line in findings.split("<li>")[1:]] == [
        ["Hardest", "to", "predict:", "seldom", "F1", "0.40", "often", "F1", "0.57"],
        ["Predicted", "much", "more", "often", "than", "present:", "often", "100", "for", "40"],
        ["Predicted", "much", "less", "often", "than", "present:", "seldom", "10", "for", "40"],
        ["Evaluated", "on", "fewer", "than", "10", "texts", "rare", "3"],
    ]


# Runs and bundles


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_run_contains_its_report(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    parsed = checked(page)
    assert {"figures", "labels", "curves", "calibration", "together", "learning", "errors", "made"} <= set(parsed.ids)
    assert "review" not in parsed.ids
    figures = read_run(run).metrics["test"]
    for name in ("micro_f1", "macro_f1", "ranking_average_precision"):
        assert f"<td>{figures['tuned'][name]:.4f}</td>" in page
    made = page[page.index('id="made"') :]
    assert "error, test" in made
    assert not re.search(r"\d\.\d{6}|price", made)  # no float with all digits, and no figures by label
    for scores in figures["per_label"].values():
        assert f"<b>{scores['f1']:.2f}</b>" in page
    assert [each.split for each in read_heldout_scores(run, read_run(run).labels)] == ["validation", "test"]


def test_report_command_includes_review_rows(own_run: Path) -> None:
    (own_run / "report.html").unlink()
    write_review(
        as_document([LabelSuggestion(7, "train", "lost parcel", (), ("delivery",), {"delivery": 0.9}, {})], 1), own_run
    )
    done = CliRunner().invoke(command, [str(own_run)])
    assert done.exit_code == 0, done.output
    assert f"{own_run / 'report.html'} is ready" in done.stdout
    page = (own_run / "report.html").read_text(encoding="utf-8")
    assert "review" in checked(page).ids
    assert "lost parcel" in page


def test_the_same_run_gives_the_same_page(own_run: Path) -> None:
    before = (own_run / "report.html").read_bytes()
    write_report(own_run, read_run(own_run))
    assert (own_run / "report.html").read_bytes() == before


def test_report_of_incomplete_run_error(own_run: Path) -> None:
    (own_run / "scores.npz").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match=r"scores.npz is damaged"):
        write_report(own_run, read_run(own_run))
    (own_run / "scores.npz").unlink()
    with pytest.raises(CheckpointError, match=r"scores.npz is missing.*Retrain"):
        write_report(own_run, read_run(own_run))
    assert export(own_run, own_run.parent / "bundle").path.is_dir()  # the export needs none of these files


def test_report_rejects_scores_of_other_texts(own_run: Path) -> None:
    lines = (own_run / "test.jsonl").read_text().splitlines()
    (own_run / "test.jsonl").write_text("\n".join(lines[1:]))
    with pytest.raises(CheckpointError, match=r"\(60, 4\) for test, but test.jsonl has labels of shape \(59, 4\)"):
        write_report(own_run, read_run(own_run))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_report_without_test_split_and_unknown_labels(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(200, per_split=60)
    targets = data.targets.copy()
    targets[np.random.default_rng(0).random(targets.shape) < 0.3] = np.nan
    split = tuple("train" if name == "test" else name for name in data.split)
    train(
        replace(data, targets=targets, split=split),
        tmp_path / "run",
        model=str(encoder),
        config=TrainConfig(**{**toy.RECIPE, "epochs": 1}),
    )
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    checked(page)
    assert "there is no test split" in page
    assert f"{int(np.isnan(targets[:60]).sum()):,} unknown entries are left out" in page
    assert not (tmp_path / "run" / "test.jsonl").exists()


def test_bundle_report_has_parity_and_no_texts(run: Path, run_bundle: Path) -> None:
    page = (run_bundle / "report.html").read_text(encoding="utf-8")
    parsed = checked(page)
    assert {"parity", "curves", "learning"} <= set(parsed.ids)
    assert not {"errors", "review"} & set(parsed.ids)
    assert "<b>test</b> split" in page
    texts = [
        json.loads(line)["text"]
        for name in ("validation", "test")
        for line in (run / f"{name}.jsonl").read_text().splitlines()
    ]
    assert not [text for text in texts if text in page]
    Bundle.open(run_bundle).verify()


def test_external_checkpoint_has_a_report(elsewhere: Path, tmp_path: Path) -> None:
    export(elsewhere, tmp_path / "evaluated", validation=toy.dataset(120).part("validation"), precisions=("fp32",))
    page = (tmp_path / "evaluated" / "report.html").read_text(encoding="utf-8")
    assert "<b>validation</b> split" in page
    assert not {"learning", "made"} & set(checked(page).ids)
    export(elsewhere, tmp_path / "bare", precisions=("fp32",))
    bare = (tmp_path / "bare" / "report.html").read_text(encoding="utf-8")
    assert "no labelled texts were given" in bare
    assert "parity" in checked(bare).ids
