"""Do explanations name the words that matter? Deletion curves on texts that the model has not seen.

`python -m experiments.explanations.run BUNDLE --data DATA.csv --output FOLDER --title TITLE` explains the most probable
label of test texts, takes words away one after the other, and scores what is left: by falling effect, at random, and
by rising effect. Where the effects mean something, the first curve falls faster than the second, and the third slower.
"""

import json
import os
import shlex
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
from manylabel_bench.hardware import describe_hardware
from manylabel_train.data.dataset import read_dataset

SHARES = tuple(step / 10 for step in range(11))
"""Of a text's words that are taken away."""

RANDOM_ORDERS = 5
FEWEST = 8
"""Words of a text that is taken; fewer make no curve."""

ORDERS = {"by falling effect": "falls", "at random": "random", "by rising effect": "rises"}

Curve = NDArray[np.float64]


def explained(classifier: Classifier, texts: Sequence[str], number: int, seed: int) -> Iterator[Explanation]:
    """Explanations of randomly chosen texts that are read at once, have words enough, and have a label that applies."""
    order, found = np.random.default_rng(seed).permutation(len(texts)), 0
    for row in order.tolist():
        if len(texts[row].split()) < FEWEST or len(classifier.window_spans(texts[row])) > 1:
            continue
        explanation = classifier.explain(texts[row])
        if explanation.score >= explanation.threshold:
            yield explanation
            found += 1
        if found == number:
            return


def without(text: str, words: Sequence[Word]) -> str:
    """A text without some of its words."""
    for word in sorted(words, key=lambda each: -each.start):
        text = text[: word.start] + text[word.end :]
    return text


def curves(classifier: Classifier, explanation: Explanation, rng: np.random.Generator) -> Mapping[str, Curve]:
    """What share of the score is left, by order and share of words taken away, shape `(len(SHARES),)`."""
    ranked = explanation.ranked
    orders = {"falls": [ranked], "rises": [ranked[::-1]]}
    orders["random"] = [[ranked[at] for at in rng.permutation(len(ranked))] for _ in range(RANDOM_ORDERS)]
    column = classifier.bundle.labels.index(explanation.label)
    result = {}
    for name, several in orders.items():
        texts = [without(explanation.text, order[: round(share * len(order))]) for order in several for share in SHARES]
        left = classifier.predict_proba(texts)[:, column].reshape(len(several), len(SHARES))
        result[name] = left.mean(axis=0, dtype=np.float64) / explanation.score
    return result


def measure(classifier: Classifier, texts: Sequence[str], *, number: int, seed: int) -> dict[str, Any]:
    """Mean curves, the areas under them, and how often the first lies below the second."""
    rng = np.random.default_rng(seed)
    every: dict[str, list[Curve]] = {name: [] for name in ORDERS.values()}
    for explanation in explained(classifier, texts, number, seed):
        for name, curve in curves(classifier, explanation, rng).items():
            every[name].append(curve)
    if not every["falls"]:
        raise ManylabelError(f"none of {len(texts)} texts has {FEWEST} words and a label that applies.")
    stacked = {name: np.stack(found) for name, found in every.items()}
    areas = {name: np.trapezoid(found, SHARES, axis=1) for name, found in stacked.items()}
    return {
        "texts": len(stacked["falls"]),
        "curves": {name: np.round(found.mean(axis=0), 4).tolist() for name, found in stacked.items()},
        "areas": {name: round(float(found.mean()), 4) for name, found in areas.items()},
        "areas_sd": {name: round(float(found.std(ddof=1)), 4) for name, found in areas.items()},
        "below_random": round(float((areas["falls"] < areas["random"]).mean()), 4),
        "above_random": round(float((areas["rises"] > areas["random"]).mean()), 4),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The curves as a table, with what they were measured on and by."""
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
            f"{result['texts']:,} texts of the test split, chosen at random (seed {result['seed']}) among those of "
            f"{FEWEST} words or more that have a label; the most probable label is explained, by "
            f"{result['precision']} on the CPU. Words are taken out of the text and what is left is scored anew. Share "
            f"of the score that is left, means over the texts (at random: of {RANDOM_ORDERS} orders of each), and the "
            "area under the curve, in which less is faster:",
            "",
            "| words taken away | " + " | ".join(f"{share:.0%}" for share in SHARES) + " | area |",
            "| --- |" + " ---: |" * (len(SHARES) + 1),
            *rows,
            "",
            "Taking away by falling effect lies below taking away at random in "
            f"{result['below_random']:.1%} of the texts, by rising effect above it in {result['above_random']:.1%}. "
            "All three end with the score of an empty text.",
            "",
            result_io.machine_line(result["machine"]),
            "",
        ]
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Labelled texts with a test split.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="Heads README.md.")
@click.option("--texts", "number", type=click.IntRange(min=2), default=500, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(bundle: Path, data: Path, output: Path, title: str, number: int, seed: int) -> None:
    """Measure the explanations of BUNDLE."""
    try:
        classifier = Classifier.load(bundle, device="cpu")
        found = measure(classifier, read_dataset(data).part("test").texts, number=number, seed=seed)
    except ManylabelError as exc:
        raise click.ClickException(str(exc)) from exc
    words = ["--data", result_io.data_path(data), "--output", "FOLDER", "--title", title, "--texts", str(number)]
    result = {
        "title": title,
        "command": shlex.join(
            ["python", "-m", "experiments.explanations.run", f"build/{bundle.name}", *words, "--seed", str(seed)]
        ),
        "bundle": classifier.bundle.digest,
        "precision": classifier.precision,
        "seed": seed,
        **found,
        "machine": describe_hardware() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
    }
    result_io.write(result, output, markdown(result))
    click.echo(json.dumps({name: result[name] for name in ("texts", "areas", "below_random", "above_random")}))


if __name__ == "__main__":
    main()
