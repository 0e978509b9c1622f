"""The model card of a bundle: what it is, how good, how to use it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from manylabel.bundle.bundle import MANIFEST, Manifest
from manylabel_export.card.comparison import flips, variants
from manylabel_export.card.markdown import code, table
from manylabel_export.card.metadata import front_matter
from manylabel_train.thresholds.objectives import Objective, Objectives, parse_objectives


def model_card(manifest: Manifest, name: str) -> str:
    """A bundle's README.md in the form that model hubs read.

    Args:
        manifest: The bundle's manifest; its list of files is not needed.
        name: What the bundle is called.
    """
    return "\n".join(
        [
            *front_matter(manifest, name),
            "",
            f"# {name}",
            "",
            *_summary(manifest),
            "",
            *_labels(manifest),
            "",
            *_goals(manifest),
            *variants(manifest),
            "",
            *flips(manifest),
            *_vocabulary(manifest),
            *_metrics(manifest),
            *_calibration(manifest),
            *_use(name),
            *_single_file(manifest),
            "",
        ]
    )


def _summary(manifest: Manifest) -> list[str]:
    origin = manifest.source.get("origin", {})
    base = origin.get("carried_from") or origin.get("model") or manifest.source.get("checkpoint", "a checkpoint")
    return [
        f"A multi-label text classifier: a text gets every one of {len(manifest.labels)} labels that applies, "
        f"often several, perhaps none. Made from {code(str(base))}. {_thresholds(manifest)}",
        "",
        f"It reads {manifest.max_length} tokens at once; longer texts: {code(manifest.long_text.policy)}.",
    ]


def _thresholds(manifest: Manifest) -> str:
    if not manifest.thresholds_tuned:
        return "**No validation data was given: every threshold is 0.5.**"
    if set(_goals_of(manifest)) == {Objective()}:
        return "Thresholds were tuned for F1 on validation data."
    return "Thresholds were chosen on validation data for the goals below."


def _goals_of(manifest: Manifest) -> tuple[Objective, ...]:
    """The goal of every label; F1 in bundles that say none."""
    said = manifest.source.get("thresholds")
    return (parse_objectives(said["goals"], where=MANIFEST) if said else Objectives()).for_labels(manifest.labels)


def _goals(manifest: Manifest) -> Iterator[str]:
    """What each label's threshold is for, where it is not F1 for all, and whether it was reached."""
    goals = _goals_of(manifest)
    if set(goals) == {Objective()}:
        return
    said = manifest.source["thresholds"]
    rows = [[label, str(goal), _outcome(label, goal, said)] for label, goal in zip(manifest.labels, goals, strict=True)]
    yield from ["## Goals of the thresholds", "", *table(["label", "goal", "on validation texts"], rows), ""]
    if said["bounds"]:
        yield from [
            "A guarantee was proved on validation texts that no other choice has looked at. It is for new texts that "
            "are exchangeable with them, and for one label at a time: the confidence is the share of draws of these "
            "texts in which it holds.",
            "",
        ]


def _outcome(label: str, goal: Objective, said: Mapping[str, Any]) -> str:
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
    return ["## Labels", "", *table(["label", *head], rows)]


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
            *table(["metric", "threshold 0.5", "tuned"], rows),
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
        *table(["label", *(f"{split}, {time}" for split in errors for time in times)], rows),
        "",
    ]


def _use(name: str) -> list[str]:
    return [
        "## Use",
        "",
        "```python",
        "from manylabel import Classifier  # pip install manylabel[cpu]",
        "",
        f'classifier = Classifier.load({json.dumps(name, ensure_ascii=False)})  # or "hf://USER/MODEL"',
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
        f"{code(said['file'])} is the {said['precision']} variant as one file, with the tokenizer in the graph: ONNX "
        f"Runtime takes `text`, a string, and gives `labels` and `probabilities`. Its token ids were found equal on "
        f"{said['texts_tokenised']:,} texts, its answers on {said['texts_answered']:,}.",
    ]
