"""Do explanations name the words that matter? Deletion curves on texts that the model has not seen.

`python -m experiments.explanations.run BUNDLE --data DATA.csv --output FOLDER --title TITLE` explains the most probable
label of test texts, deletes words one after the other, and scores the rest: by decreasing effect, at random, and by
increasing effect. If the effects are meaningful, the first curve falls faster than the second, and the third slower.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel.classifier import Classifier
from manylabel.errors import ManylabelError
from manylabel.explain.occlusion import Explanation, Word
from manylabel_train.data.dataset import read_dataset

SHARES = tuple(step / 10 for step in range(11))
"""Shares of a text's words that are deleted."""

RANDOM_ORDERS = 5
MIN_WORDS = 8
"""Words that a text must have; fewer make no curve."""

ORDERS = {"by decreasing effect": "falls", "at random": "random", "by increasing effect": "rises"}
"""Key in the result, by name in the page."""

Curve = NDArray[np.float64]


def explain_texts(classifier: Classifier, texts: Sequence[str], number: int, seed: int) -> Iterator[Explanation]:
    """Explain random texts that fit into one window, have enough words, and have a predicted label."""
    order, explained = np.random.default_rng(seed).permutation(len(texts)), 0
    for row in order.tolist():
        if len(texts[row].split()) < MIN_WORDS or len(classifier.window_spans(texts[row])) > 1:
            continue
        explanation = classifier.explain(texts[row])
        if explanation.score >= explanation.threshold:
            yield explanation
            explained += 1
        if explained == number:
            return


def delete_words(text: str, words: Sequence[Word]) -> str:
    """Return a text without some of its words."""
    for word in sorted(words, key=lambda each: -each.start):
        text = text[: word.start] + text[word.end :]
    return text


def deletion_curves(classifier: Classifier, explanation: Explanation, rng: np.random.Generator) -> Mapping[str, Curve]:
    """Return the share of the score that is left after each share of deletions, by order; shape `(len(SHARES),)`."""
    ranked = explanation.ranked
    orders = {"falls": [ranked], "rises": [ranked[::-1]]}
    orders["random"] = [[ranked[at] for at in rng.permutation(len(ranked))] for _ in range(RANDOM_ORDERS)]
    column = classifier.bundle.labels.index(explanation.label)
    result = {}
    for name, several in orders.items():
        texts = [
            delete_words(explanation.text, order[: round(share * len(order))]) for order in several for share in SHARES
        ]
        left = classifier.predict_proba(texts)[:, column].reshape(len(several), len(SHARES))
        result[name] = left.mean(axis=0, dtype=np.float64) / explanation.score
    return result


def measure_curves(classifier: Classifier, texts: Sequence[str], *, number: int, seed: int) -> dict[str, Any]:
    """Return the mean curves, the areas under them, and how often they lie below or above the random order."""
    rng = np.random.default_rng(seed)
    every: dict[str, list[Curve]] = {name: [] for name in ORDERS.values()}
    for explanation in explain_texts(classifier, texts, number, seed):
        for name, curve in deletion_curves(classifier, explanation, rng).items():
            every[name].append(curve)
    if not every["falls"]:
        raise ManylabelError(f"none of {len(texts)} texts has {MIN_WORDS} words and a predicted label.")
    stacked = {name: np.stack(values) for name, values in every.items()}
    areas = {name: np.trapezoid(values, SHARES, axis=1) for name, values in stacked.items()}
    return {
        "texts": len(stacked["falls"]),
        "curves": {name: np.round(values.mean(axis=0), 4).tolist() for name, values in stacked.items()},
        "areas": {name: round(float(values.mean()), 4) for name, values in areas.items()},
        "areas_sd": {name: round(float(values.std(ddof=1)), 4) for name, values in areas.items()},
        "below_random": round(float((areas["falls"] < areas["random"]).mean()), 4),
        "above_random": round(float((areas["rises"] > areas["random"]).mean()), 4),
    }


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    rows = [
        f"| {name} | "
        + " | ".join(f"{left:.2f}" for left in result["curves"][key])
        + f" | {result['areas'][key]:.3f} |"
        for name, key in ORDERS.items()
    ]
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            f"`{result['command']}`",
            "",
            f"{result['texts']:,} random texts of the test split (seed {result['seed']}) with at least {MIN_WORDS} "
            f"words and a predicted label; the most probable label is explained, with {result['precision']} on the "
            "CPU. Words are deleted from the text and the rest is scored again. The table has the share of the "
            f"score that is left, means over the texts (at random: over {RANDOM_ORDERS} orders of each), and the "
            "area under the curve, where less means faster:",
            "",
            "| words deleted | " + " | ".join(f"{share:.0%}" for share in SHARES) + " | area |",
            "| --- |" + " ---: |" * (len(SHARES) + 1),
            *rows,
            "",
            f"Deleting by decreasing effect lies below deleting at random in {result['below_random']:.1%} of the "
            f"texts, by increasing effect above it in {result['above_random']:.1%}. All three end with the score of "
            "an empty text.",
            "",
            result_io.format_machine(result["machine"]),
            "",
        ]
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Labelled texts with a test split.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="The title of README.md.")
@click.option("--texts", "number", type=click.IntRange(min=2), default=500, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(bundle: Path, data: Path, output: Path, title: str, number: int, seed: int) -> None:
    """Measure the explanations of BUNDLE."""
    try:
        classifier = Classifier.load(bundle, device="cpu")
        measured = measure_curves(classifier, read_dataset(data).part("test").texts, number=number, seed=seed)
    except ManylabelError as exc:
        raise click.ClickException(str(exc)) from exc
    options = {
        "data": result_io.portable_path(data),
        "output": "FOLDER",
        "title": title,
        "texts": number,
        "seed": str(seed),
    }
    result = {
        "title": title,
        "command": result_io.format_command("explanations", [f"build/{bundle.name}"], options, {}),
        "bundle": classifier.bundle.digest,
        "precision": classifier.precision,
        "seed": seed,
        **measured,
        "machine": result_io.describe_machine(),
    }
    result_io.write_result(result, output, render_readme)
    click.echo(json.dumps({name: result[name] for name in ("texts", "areas", "below_random", "above_random")}))


if __name__ == "__main__":
    main()
