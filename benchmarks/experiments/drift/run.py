"""Does the drift monitor report texts of another kind, and stay quiet on texts of the same kind?

`python -m experiments.drift.run BUNDLE --data SAME.csv --other OTHER.csv --output FOLDER --title TITLE` scores the test
split of the bundle's data, which neither model nor thresholds nor histograms have seen, and the texts of another data
set, draws samples of several sizes from both, and counts those in which a label is reported.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel.classifier import Classifier
from manylabel.drift import DriftMonitor, DriftReport
from manylabel.drift.report import FALSE_ALARM_RATE
from manylabel.errors import ManylabelError
from manylabel_train.data.dataset import read_dataset

SIZES = (30, 100, 300, 1000, 3000)
SAMPLES = 200
"""Samples of each size; a set with fewer texts than a sample gives none."""

LISTED_LABELS = 5

Scores = NDArray[np.float32]


def report_drift(classifier: Classifier, scores: Scores) -> DriftReport:
    """Return the drift report of scores."""
    monitor = DriftMonitor.from_classifier(classifier, window=len(scores))
    monitor.update(scores)
    return monitor.report()


def report_samples(classifier: Classifier, scores: Scores, seed: int) -> list[dict[str, float]]:
    """Return by sample size how often any label is reported and how many on average, without replacement."""
    rng, rows = np.random.default_rng(seed), []
    for size in (size for size in SIZES if size <= len(scores)):
        reported = [
            len(report_drift(classifier, scores[rng.choice(len(scores), size, replace=False)]).drifted)
            for _ in range(SAMPLES)
        ]
        rows.append(
            {
                "texts": size,
                "fired": round(float(np.mean(np.array(reported) > 0)), 4),
                "labels": float(np.mean(reported)),
            }
        )
    return rows


def measure_drift(classifier: Classifier, scores: Scores, seed: int) -> dict[str, Any]:
    """Return the report of all texts together, and of samples."""
    report = report_drift(classifier, scores)
    by_psi = sorted(report.labels, key=lambda each: -each.psi)
    return {
        "texts": report.texts,
        "drifted": list(report.drifted),
        "greatest": [
            {
                name: round(value, 4)
                for name, value in (
                    ("psi", each.psi),
                    ("psi_limit", each.psi_limit),
                    ("rate", each.rate),
                    ("expected_rate", each.expected_rate),
                    ("low", each.likely[0]),
                    ("high", each.likely[1]),
                )
            }
            | {"label": each.label}
            for each in by_psi[:LISTED_LABELS]
        ],
        "samples": report_samples(classifier, scores, seed),
    }


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    lines = [
        f"# {result['title']}",
        "",
        f"`{result['command']}`",
        "",
        f"{result['labels']} labels, histograms of {result['reference_texts']:,} validation texts, scores by "
        f"{result['precision']} on the CPU. In one report, the probability that any label is reported by chance is "
        f"{FALSE_ALARM_RATE}. {SAMPLES} samples of each size were drawn without replacement; samples of one set share "
        "texts.",
        "",
        "| texts of | sample size | samples with a reported label | labels reported, mean |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {row['texts']:,} | {row['fired']:.1%} | {row['labels']:.2f} |"
            for name, measured in result["sets"].items()
            for row in measured["samples"]
        ),
        "",
        "All texts of a set together, and the labels with the highest population stability index (PSI):",
        "",
        "| texts of | all | labels reported | label | PSI | limit | rate | expected | likely |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {name} | {measured['texts']:,} | {len(measured['drifted'])} | {each['label']} | {each['psi']:.3f} | "
            f"{each['psi_limit']:.3f} | {each['rate']:.4f} | {each['expected_rate']:.4f} | {each['low']:.4f} to "
            f"{each['high']:.4f} |"
            for name, measured in result["sets"].items()
            for each in measured["greatest"]
        ),
        "",
        result_io.format_machine(result["machine"]),
        "",
    ]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The bundle's data, with a test split.")
@click.option("--other", type=click.Path(path_type=Path), required=True, help="Texts of another kind.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="The title of README.md.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(bundle: Path, data: Path, other: Path, output: Path, title: str, seed: int) -> None:
    """Measure what the drift monitor of BUNDLE reports for the test split of DATA and for OTHER."""
    try:
        classifier = Classifier.load(bundle, device="cpu")
        texts = {
            f"{data.parent.name}, test": read_dataset(data).part("test").texts,
            other.parent.name: read_dataset(other).texts,
        }
        sets = {name: measure_drift(classifier, classifier.predict_proba(each), seed) for name, each in texts.items()}
        reference = report_drift(classifier, np.zeros((1, len(classifier.bundle.labels)), np.float32)).reference_texts
    except ManylabelError as exc:
        raise click.ClickException(str(exc)) from exc
    options = {"data": result_io.portable_path(data), "other": result_io.portable_path(other)}
    options |= {"output": "FOLDER", "title": title}
    result = {
        "title": title,
        "command": result_io.format_command("drift", [f"build/{bundle.name}"], options, {}),
        "bundle": classifier.bundle.digest,
        "precision": classifier.precision,
        "labels": len(classifier.bundle.labels),
        "reference_texts": reference,
        "seed": seed,
        "sets": sets,
        "machine": result_io.describe_machine(),
    }
    result_io.write_result(result, output, render_readme)
    click.echo(json.dumps({name: [row["fired"] for row in each["samples"]] for name, each in sets.items()}))


if __name__ == "__main__":
    main()
