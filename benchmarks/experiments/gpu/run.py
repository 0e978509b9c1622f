"""On a GPU: is the bundle as accurate as PyTorch, and how much faster?

    python -m experiments.gpu.run BUNDLE --checkpoint RUN --data DATA.csv --output benchmarks/experiments/gpu

In one process and in turns, it runs the bundle in batches of several sizes and with CUDA graphs, and PyTorch in half
precision with fused attention (SDPA), sorted by length, in batches of several sizes. All are compared with PyTorch in
fp32 on the same device. `--device cpu` tries the command without a GPU; PyTorch's half precision is bf16 there.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.common import result_io
from manylabel import Bundle, Classifier
from manylabel.inference.length_batching import DEFAULT_BATCH_TOKENS
from manylabel_bench.contenders.padded_batches import (
    PaddedContender,
    PaddedIds,
    load_checkpoint_tokenizer,
    restore_order,
)
from manylabel_bench.contenders.registry import ContenderConfig
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.results import tables
from manylabel_bench.results.metrics import bootstrap_interval
from manylabel_bench.runner.workload import build_workload
from manylabel_train.data.dataset import read_dataset

Scores = NDArray[np.float32]
Predictor = Callable[[tuple[str, ...]], Scores]
PADDED_SIZES = (32, 128, 512)
"""Texts in a batch of PyTorch."""

BATCH_SCALES = (0.25, 1, 4)
"""Our batch sizes as multiples of the default."""

SINGLES = 500
WARM = 64


class PyTorchPredictor(PaddedContender):
    """The checkpoint in PyTorch on a device, with a batch size."""

    def __init__(self, setting: ContenderConfig, device: str, dtype: str, size: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        import manylabel_train.models.pooling  # noqa: F401 - makes known the model type of runs with another pooling

        super().__init__(*load_checkpoint_tokenizer(setting))
        self._torch, self._device, self._size = torch, device, size
        loaded = AutoModelForSequenceClassification.from_pretrained(
            setting.required_checkpoint, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
        self._model: Any = loaded.eval().to(device)

    def forward(self, input_ids: PaddedIds, attention_mask: PaddedIds) -> Scores:
        """Score one padded batch, and wait for the result."""
        with self._torch.inference_mode():
            ids, mask = (self._torch.from_numpy(each).to(self._device) for each in (input_ids, attention_mask))
            return np.asarray(self._torch.sigmoid(self._model(input_ids=ids, attention_mask=mask).logits.float()).cpu())

    def __call__(self, texts: tuple[str, ...]) -> Scores:
        """Return probabilities, shape `(n_texts, n_labels)`."""
        batches = self.batches(self.tokenise(texts), self._size)
        return restore_order((rows, self.forward(ids, mask)) for rows, ids, mask in batches)


def bundle_predictors(bundle: Path, threads: int, device: Any) -> dict[str, Predictor]:
    """Return the predictors of the bundle, by name: several batch sizes, and CUDA graphs on a GPU."""
    predictors: dict[str, Predictor] = {}
    for share in BATCH_SCALES:
        tokens = int(share * DEFAULT_BATCH_TOKENS[device])
        classifier = Classifier.load(bundle, device=device, threads=threads, batch_tokens=tokens)
        predictors[f"manylabel {classifier.precision}, {tokens:,} tokens"] = classifier.predict_proba
    if device == "cuda":
        with_graphs = Classifier.load(bundle, device=device, threads=threads, cuda_graphs=True)
        predictors[f"manylabel {with_graphs.precision}, CUDA graphs"] = with_graphs.predict_proba
    return predictors


def all_predictors(bundle: Path, setting: ContenderConfig, device: Any, half: str) -> dict[str, Predictor]:
    """Return all predictors, by name."""
    baselines = {
        f"PyTorch {half} SDPA, {size} texts": PyTorchPredictor(setting, device, half, size) for size in PADDED_SIZES
    }
    return {**bundle_predictors(bundle, setting.threads, device), **baselines}


def measure_rates(ways: Mapping[str, Predictor], texts: tuple[str, ...], rounds: int) -> dict[str, list[float]]:
    """Return the texts per second of each predictor in each round, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rates[name].append(len(texts) / _time_call(partial(ways[name], texts)))
    return rates


def measure_latencies(ways: Mapping[str, Predictor], texts: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the milliseconds of single texts; after each text the next predictor has its turn."""
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    for text in texts:
        for name, way in ways.items():
            latencies[name].append(1e3 * _time_call(partial(way, (text,))))
    return latencies


def compare_scores(scores: Scores, reference: Scores, thresholds: Scores) -> dict[str, float]:
    """Return how probabilities and decisions differ from the reference's, at the same thresholds."""
    difference = np.abs(scores - reference)
    flipped = ((scores >= thresholds) != (reference >= thresholds)).sum()
    return {"greatest": float(difference.max()), "mean": float(difference.mean()), "flipped": int(flipped)}


def measure_all(
    ways: Mapping[str, Predictor], reference: Scores, texts: tuple[str, ...], thresholds: Scores, rounds: int
) -> Any:
    """Return the figures of each predictor, by name; the first call is not timed."""
    agreed = {name: compare_scores(way(texts), reference, thresholds) for name, way in ways.items()}
    bulk, singles = measure_rates(ways, texts, rounds), measure_latencies(ways, texts[:SINGLES])
    return {
        name: {
            "texts_per_second": {"median": float(np.median(bulk[name])), "interval": bootstrap_interval(bulk[name])},
            "p50_ms": float(np.percentile(singles[name], 50)),
            "p99_ms": float(np.percentile(singles[name], 99)),
            "against_fp32": agreed[name],
            "raw": {"texts_per_second": bulk[name], "single_ms": singles[name]},
        }
        for name in ways
    }


def build_table(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return one row per predictor; `vs. PyTorch` compares with the fastest PyTorch."""
    best = max(each["texts_per_second"]["median"] for name, each in figures.items() if name.startswith("PyTorch"))
    head = ["", "texts/s", "vs. PyTorch", "one text, p50 ms", "p99 ms", "max. difference", "mean", "changed decisions"]
    rows = []
    for name, each in figures.items():
        rate, off = each["texts_per_second"]["median"], each["against_fp32"]
        times = [f"{rate:,.0f}", f"{rate / best:.2f}x", f"{each['p50_ms']:.2f}", f"{each['p99_ms']:.2f}"]
        rows.append([name, *times, f"{off['greatest']:.4f}", f"{off['mean']:.5f}", f"{off['flipped']:,}"])
    return [head, *rows]


def render_readme(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    where = f"{result['texts']:,} texts of the test split, {result['rounds']} rounds, on {result['device']}."
    lines = [f"# {result['title']}", "", f"`{result['command']}`", "", where, ""]
    lines += tables.to_markdown(build_table(result["ways"]))
    note = "Differences and decisions are compared with PyTorch in fp32 on the same device, at the bundle's thresholds."
    return "\n".join([*lines, "", note, "", result_io.format_machine(result["machine"]), ""])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="The run that it was exported from.")
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Number of texts; 0 takes the whole test split.")
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--title", default="On a GPU", show_default=True)
def main(
    bundle: Path, checkpoint: Path, data: Path, output: Path, device: Any, limit: int, rounds: int, title: str
) -> None:
    """Compare BUNDLE with PyTorch on a device."""
    opened = Bundle.open(bundle)
    texts = build_workload(opened, [(data.parent.name, read_dataset(data).part("test"))], limit=limit).data.texts
    classifier = Classifier.load(bundle, device=device)
    setting = ContenderConfig(str(bundle), str(checkpoint), "", classifier.threads, opened.manifest.max_length)
    reference = PyTorchPredictor(setting, device, "float32", PADDED_SIZES[0])(texts)
    ways = all_predictors(bundle, setting, device, "float16" if device == "cuda" else "bfloat16")
    for way in ways.values():
        way(texts[:WARM])
    given = {"checkpoint": checkpoint, "data": result_io.portable_path(data), "output": output, "device": device}
    result = {
        "title": title,
        "command": result_io.format_command("gpu", [str(bundle)], given, {}),
        "machine": describe_hardware(),
        "device": _device_name(device),
        "texts": len(texts),
        "rounds": rounds,
        "ways": measure_all(ways, reference, texts, classifier.thresholds_, rounds),
    }
    result_io.write_result(result, output, render_readme)
    click.echo(tables.to_text(build_table(result["ways"])))


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "the CPU"


def _time_call(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
