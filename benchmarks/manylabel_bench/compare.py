"""Does the bundle answer faster than PyTorch, and as well?

Contenders run in processes of their own and take turns, on texts that neither the model nor its thresholds have seen.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from manylabel import Bundle
from manylabel.errors import ManylabelError
from manylabel_bench.machine import describe
from manylabel_export.dataset import Dataset
from manylabel_export.metrics import multilabel_metrics

ALONE = 200
"""Texts that are scored both alone and in company."""


class Turn:
    """A contender's process, which works only while it is its turn."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._process = process
        self.load_seconds: float = self._answer()["load_seconds"]

    def ask(self, command: str) -> dict[str, Any]:
        """Do what the command says and wait for it."""
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ManylabelError(f"the benchmark's process for {self.name} died; its message is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def compare(bundle: Bundle, data: Dataset, checkpoint: Path | None, *, threads: int, rounds: int) -> dict[str, Any]:
    """Measure every contender that can run here.

    Args:
        bundle: What is measured.
        data: Texts that neither the model nor its thresholds have seen, with the bundle's labels in its column order.
        checkpoint: The PyTorch checkpoint that it came from, or None to leave PyTorch out.
        threads: For every contender.
        rounds: How often each scores all texts, in turns.

    Returns:
        One JSON-ready document: machine, texts, and for each contender its times, memory and metrics.
    """
    names = [
        f"manylabel {variant.precision}"
        for variant in bundle.manifest.variants
        if "CPUExecutionProvider" in variant.providers
    ]
    names += ["pytorch", "pipeline"] if checkpoint else []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        (scratch / "texts.json").write_text(json.dumps(data.texts), encoding="utf-8")
        turns = [
            stack.enter_context(_process(name, bundle.path, checkpoint, scratch / "texts.json", threads))
            for name in names
        ]
        scores = {turn.name: _scores(turn, scratch / "scores.npy") for turn in turns}
        bulk, single = _take_turns(turns, rounds)
        alone = _alone_and_in_company(bundle, data.texts[:ALONE])
    return {
        "machine": describe(),
        "threads": threads,
        "rounds": rounds,
        "texts": len(data),
        "bundle": {
            "digest": bundle.digest,
            "labels": len(bundle.labels),
            "parity": {name: asdict(parity) for name, parity in bundle.manifest.certificate.parity.items()},
        },
        "same_alone_and_in_company": alone,
        "contenders": [
            _figures(turn, bundle, data, scores[turn.name], scores.get("pytorch"), bulk[turn.name], single[turn.name])
            for turn in turns
        ],
    }


@contextmanager
def _process(name: str, bundle: Path, checkpoint: Path | None, texts: Path, threads: int) -> Iterator[Turn]:
    spec = {
        "name": name,
        "bundle": str(bundle),
        "checkpoint": str(checkpoint) if checkpoint else None,
        "texts": str(texts),
        "threads": threads,
    }
    count = str(threads)
    # Waiting threads sleep, so that a contender whose turn is over takes nothing from the next.
    quiet = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": count,
        "RAYON_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "manylabel_bench.worker", json.dumps(spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | quiet | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    try:
        yield Turn(name, process)
    finally:
        process.kill()
        process.communicate()


def _take_turns(turns: Sequence[Turn], rounds: int) -> tuple[dict[str, list[dict[str, float]]], dict[str, list[float]]]:
    """Bulk and single-text times, round by round, each round in another order."""
    bulk: dict[str, list[dict[str, float]]] = {turn.name: [] for turn in turns}
    single: dict[str, list[float]] = {turn.name: [] for turn in turns}
    for number in tqdm(range(rounds), desc="rounds", unit="round"):
        for turn in (*turns[number % len(turns) :], *turns[: number % len(turns)]):
            bulk[turn.name].append(turn.ask("bulk"))
            single[turn.name] += turn.ask("single 100")["seconds"]
    return bulk, single


def _scores(turn: Turn, file: Path) -> NDArray[np.float32]:
    turn.ask(f"scores {file}")
    return np.asarray(np.load(file), dtype=np.float32)


def _figures(
    turn: Turn,
    bundle: Bundle,
    data: Dataset,
    scores: NDArray[np.float32],
    pytorch: NDArray[np.float32] | None,
    bulk: Sequence[dict[str, float]],
    single: Sequence[float],
) -> dict[str, Any]:
    """Speed, memory and accuracy. PyTorch decides by the thresholds of fp32, which were tuned on its probabilities."""
    precision = turn.name.removeprefix("manylabel ") if turn.name.startswith("manylabel ") else "fp32"
    seconds = [one["seconds"] for one in bulk]
    figures: dict[str, Any] = {
        "name": turn.name,
        "texts_per_second": {
            "median": len(data) / float(np.median(seconds)),
            "all": [len(data) / one for one in seconds],
        },
        "single_text_ms": {f"p{q}": float(np.percentile(single, q)) * 1000 for q in (50, 90, 99)},
        "load_seconds": turn.load_seconds,
        "peak_rss_mb": bulk[-1]["peak_rss_mb"],
        **multilabel_metrics(scores, data.targets, np.array(bundle.variants[precision].thresholds, dtype=np.float32)),
        "at_half": multilabel_metrics(scores, data.targets),
    }
    if pytorch is not None:
        difference = np.abs(scores.astype(np.float64) - pytorch)
        figures |= {"max_difference": float(difference.max()), "mean_difference": float(difference.mean())}
    return figures


def _alone_and_in_company(bundle: Bundle, texts: Sequence[str]) -> dict[str, bool]:
    """For each variant: does a text get the same bits alone as among others?"""
    from manylabel import Classifier

    result = {}
    for name, variant in bundle.variants.items():
        if "CPUExecutionProvider" in variant.providers:
            classifier = Classifier.load(bundle.path, device="cpu", precision=name)  # type: ignore[arg-type]  # a precision
            together = classifier.predict_proba(texts)
            alone = np.concatenate([classifier.predict_proba(text) for text in texts])
            result[name] = bool((alone == together).all())
    return result
