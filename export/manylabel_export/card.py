"""The model card of a bundle: what it is, how good, how to use it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from manylabel.bundle import FP32, MANIFEST, Manifest, Rescue
from manylabel.certificate import Estimate
from manylabel_export.goals import Goal, Goals, read_goals

MARKDOWN = ("\\", "|", "`", "*", "_", "<", "[", "]")
"""Characters that would format a table's cell or end it; the backslash first."""


def model_card(manifest: Manifest, name: str) -> str:
    """A bundle's README.md in the form that model hubs read.

    Args:
        manifest: The bundle's manifest; its list of files is not needed.
        name: What the bundle is called.
    """
    return "\n".join(
        [
            *_front_matter(),
            "",
            f"# {name}",
            "",
            *_summary(manifest),
            "",
            *_labels(manifest),
            "",
            *_goals(manifest),
            *_variants(manifest),
            "",
            *_flips(manifest),
            *_vocabulary(manifest),
            *_metrics(manifest),
            *_calibration(manifest),
            *_use(name),
            *_single_file(manifest),
            "",
        ]
    )


def _front_matter() -> list[str]:
    return [
        "---",
        "library_name: manylabel",
        "pipeline_tag: text-classification",
        "tags:",
        "- multi-label",
        "- onnx",
        "---",
    ]


def _summary(manifest: Manifest) -> list[str]:
    origin = manifest.source.get("origin", {})
    base = origin.get("carried_from") or origin.get("model") or manifest.source.get("checkpoint", "a checkpoint")
    return [
        f"A multi-label text classifier: a text gets every one of {len(manifest.labels)} labels that applies, "
        f"often several, perhaps none. Made from {_code(str(base))}. {_thresholds(manifest)}",
        "",
        f"It reads {manifest.max_length} tokens at once; longer texts: {_code(manifest.long_text.policy)}.",
    ]


def _thresholds(manifest: Manifest) -> str:
    if not manifest.thresholds_tuned:
        return "**No validation data was given: every threshold is 0.5.**"
    if set(_goals_of(manifest)) == {Goal()}:
        return "Thresholds were tuned for F1 on validation data."
    return "Thresholds were chosen on validation data for the goals below."


def _goals_of(manifest: Manifest) -> tuple[Goal, ...]:
    """The goal of every label; F1 in bundles that say none."""
    said = manifest.source.get("thresholds")
    return (read_goals(said["goals"], where=MANIFEST) if said else Goals()).of(manifest.labels)


def _goals(manifest: Manifest) -> Iterator[str]:
    """What each label's threshold is for, where it is not F1 for all, and whether it was reached."""
    goals = _goals_of(manifest)
    if set(goals) == {Goal()}:
        return
    said = manifest.source["thresholds"]
    rows = [[label, str(goal), _outcome(label, goal, said)] for label, goal in zip(manifest.labels, goals, strict=True)]
    yield from ["## Goals of the thresholds", "", *_table(["label", "goal", "on validation texts"], rows), ""]
    if said["bounds"]:
        yield from [
            "A guarantee was proved on validation texts that no other choice has looked at. It is for new texts that "
            "are exchangeable with them, and for one label at a time: the confidence is the share of draws of these "
            "texts in which it holds.",
            "",
        ]


def _outcome(label: str, goal: Goal, said: Mapping[str, Any]) -> str:
    """What became of a label's goal."""
    if label in said["unmet"]:
        return str(said["unmet"][label])
    if label in said["bounds"]:
        return f"at least {said['bounds'][label]:.3f}"
    return "" if goal.figure == "f_beta" else "reached"


def _labels(manifest: Manifest) -> list[str]:
    head = [f"thresholds {variant.precision}" for variant in manifest.variants]
    rows = [
        [label, *(f"{variant.thresholds[column]:.3f}" for variant in manifest.variants)]
        for column, label in enumerate(manifest.labels)
    ]
    return ["## Labels", "", *_table(["label", *head], rows)]


def _variants(manifest: Manifest) -> Iterator[str]:
    certificate = manifest.certificate
    head = [
        *("variant", "for", "greatest difference", "99.9th percentile", "mean difference"),
        *("texts with other labels", "ties", "same bits alone", "micro-F1", "macro-F1"),
    ]
    yield from [
        "## Variants against PyTorch",
        "",
        f"Against {certificate.reference} on {certificate.texts:,} {certificate.data} texts: differences of "
        "probabilities; texts that get other labels, of those that get any; decisions that differ by rounding alone "
        "(ties); texts that score the same bits alone as among the others; F1 with its 95 % interval, and its change."
        + " int8 was fitted to some of these texts."
        * ("int8" in certificate.parity and certificate.data == "validation"),
        "",
        *_table(head, [_variant_row(manifest, precision) for precision in certificate.parity]),
        "",
        f"Measured on {certificate.device}: {certificate.machine}.",
    ]
    for variant in manifest.variants:
        if variant.rescue:
            yield ""
            yield _rescue(variant.precision, variant.rescue)
    for precision, reason in certificate.refused.items():
        yield ""
        yield f"{precision} was refused: {reason}"
    yield from _without_fp32(manifest)


def _variant_row(manifest: Manifest, precision: str) -> list[str]:
    parity, written = manifest.certificate.parity[precision], {one.precision: one for one in manifest.variants}
    providers = written[precision].providers if precision in written else ()
    quality = parity.quality
    return [
        precision,
        ", ".join(name.removesuffix("ExecutionProvider") for name in providers) or "not written",
        *(f"{figure:.1e}" for figure in (parity.max_difference, parity.p999_difference, parity.mean_difference)),
        f"{parity.texts_flipped:,} of {parity.texts_labelled:,} ({parity.flips:.2%})",
        f"{parity.ties:,}",
        f"{parity.alone.same} of {parity.alone.tried}",
        _f1(quality.micro_f1, quality.micro_f1_change) if quality else "not measured",
        _f1(quality.macro_f1, quality.macro_f1_change) if quality else "not measured",
    ]


def _f1(figure: Estimate, change: Estimate) -> str:
    return (
        f"{figure.value:.4f} ({figure.low:.3f} to {figure.high:.3f}), change {change.value:+.4f} "
        f"({change.low:+.4f} to {change.high:+.4f})"
    )


def _rescue(precision: str, rescue: Rescue) -> str:
    return (
        f"{precision} was beyond its budget: {rescue.reason}. {len(rescue.kept)} of {rescue.products} products stay in "
        f"fp32 for that, and {rescue.cost}: {', '.join(map(_code, rescue.kept))}."
    )


def _without_fp32(manifest: Manifest) -> Iterator[str]:
    if FP32 not in (variant.file for variant in manifest.variants):
        yield ""
        yield (
            f"The fp32 graph was proved equal to PyTorch on these texts. {_code(FP32)} is not in this bundle; readers "
            "without ONNX Runtime's own operators (OpenVINO) and Optimum need one with it."
        )


def _flips(manifest: Manifest) -> Iterator[str]:
    """Labels that some variant gives to other texts than PyTorch does."""
    found = manifest.certificate.parity
    by_label = {label: [parity.labels[label] for parity in found.values()] for label in manifest.labels}
    rows = [
        [label, f"{sides[0].given:,}", *(f"+{side.gained} -{side.lost}" for side in sides)]
        for label, sides in by_label.items()
        if any(side.gained or side.lost for side in sides)
    ]
    if rows:
        yield from [
            "## Decisions that differ, by label",
            "",
            "Texts that a label is given to by PyTorch, by the variant alone (+) and by PyTorch alone (-); labels with "
            "none of these are left out.",
            "",
            *_table(["label", "PyTorch", *found], rows),
            "",
        ]


def _vocabulary(manifest: Manifest) -> Iterator[str]:
    """What became of a trimmed vocabulary."""
    said = manifest.source.get("vocabulary")
    if not said:
        return
    fresh, share = said["judged_texts_not_in_corpus"], said["identical_not_in_corpus"]
    yield from [
        "## Vocabulary",
        "",
        f"Trimmed to what {said['corpus_texts']:,} texts use and single characters: {said['pieces']:,} of "
        f"{said['pieces_before']:,} pieces. Those texts are tokenised as before; of texts like them "
        f"{said['identical_left_out']:.1%} are expected to be: the share of them that use no piece which no other uses."
        + (f" Of {fresh:,} judged texts that are not among them {share:.1%} are." if fresh else ""),
        "",
        f"Unknown pieces: {said['unknown']:.3%} of the judged texts', before {said['unknown_before']:.3%}. The figures "
        "above compare with the whole PyTorch model where tokens are the same, elsewhere with the trimmed one; from "
        f"the whole one to these answers probabilities differ by {said['mean_difference']:.1e} on average.",
        "",
    ]


def _metrics(manifest: Manifest) -> Iterator[str]:
    """What training measured, for bundles that come from a run."""
    for split, figures in manifest.metrics.items():
        rows = [[name, f"{figures['at_half'][name]:.4f}", f"{figures['tuned'][name]:.4f}"] for name in figures["tuned"]]
        yield from [
            f"## {split.capitalize()} split, PyTorch, {figures['texts']:,} texts",
            "",
            *_table(["metric", "threshold 0.5", "tuned"], rows),
            "",
        ]


def _calibration(manifest: Manifest) -> Iterator[str]:
    """How far probabilities were from what they say, and are."""
    said = manifest.source.get("calibration")
    if not said:
        return
    errors = {split: said["error"][split] for split in ("validation", "test") if split in said["error"]}
    times = ("before", "after")
    rows = [["mean of all labels", *(f"{of[time]['mean']:.4f}" for of in errors.values() for time in times)]]
    for label in manifest.labels:
        cells = (of[time]["labels"].get(label) for of in errors.values() for time in times)
        rows.append([label, *("not measured" if cell is None else f"{cell:.4f}" for cell in cells)])
    yield from [
        "## Calibration",
        "",
        f"Method: {said['method']}. {len(said['labels'])} of {len(manifest.labels)} labels gained by one and were "
        "calibrated. Expected calibration error: a label's texts are sorted by probability and cut into "
        f"{said['bins']} bins of equally many; the distance between a bin's mean probability and its share of "
        "positives, averaged over texts. On the validation split, each text by a calibration fitted without it.",
        "",
        *_table(["label", *(f"{split}, {time}" for split in errors for time in times)], rows),
        "",
    ]


def _use(name: str) -> list[str]:
    return [
        "## Use",
        "",
        "```python",
        "from manylabel import Classifier  # pip install manylabel[cpu]",
        "",
        f"classifier = Classifier.load({json.dumps(name, ensure_ascii=False)})",
        'classifier.predict(["a text", "another"])',
        "```",
    ]


def _single_file(manifest: Manifest) -> Iterator[str]:
    """How to use the file that takes text, where there is one."""
    said = manifest.source.get("single_file")
    if not said:
        return
    yield from [
        "",
        f"{_code(said['file'])} is the {said['precision']} variant as one file, with the tokenizer in the graph: ONNX "
        f"Runtime takes `text`, a string, and gives `labels` and `probabilities`. Its token ids were found equal on "
        f"{said['texts_tokenised']:,} texts, its answers on {said['texts_answered']:,}.",
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[_cell(cell) for cell in row] for row in (head, ["---"] * len(head), *rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _cell(text: str) -> str:
    """Text that stays in its cell and is shown as it is, whatever a label is called."""
    for mark in MARKDOWN:
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"
