"""Which int8 scheme is closest to PyTorch, is it batch-invariant, and how fast is it?

Accuracy is measured on texts that neither the model nor a scheme has seen, and may run beside other work; speed is
measured on one core, each scheme in turns with the row-wise one. An interrupted measurement resumes with the next
scheme.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from experiments.common import result_io
from experiments.int8_bakeoff.random_bert import build_random_bert
from experiments.int8_bakeoff.schemes import SCHEMES, CalibrationInputs, Scheme, TokenIds
from manylabel.inference.length_batching import BATCH_TOKENS, group_by_length, score_texts
from manylabel.inference.thresholding import decide
from manylabel.inference.tokenizer import LongText
from manylabel_bench.hardware import describe_hardware
from manylabel_export.graph import build
from manylabel_train.data.dataset import read_dataset
from manylabel_train.data.training_run import read_run
from manylabel_train.evaluation.metrics import multilabel_metrics
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text

LENGTHS = (16, 64, 256, 512)
MAX_TURNS, MAX_SECONDS = 15, 2.0
"""Limits for timing two schemes at one length: the number of turns, and the seconds of all of them."""

REFERENCE = "row-wise"
INVARIANCE_TEXTS = 100
"""Texts that are scored one by one and in batches."""

CALIBRATION_TOKENS = 8192

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class BakeoffModel:
    """A model and its texts.

    Attributes:
        inputs: What schemes are built from.
        windows: Token ids of each test text's windows.
        targets: Labels of the test texts, or None for a random model.
        thresholds: The run's thresholds, one per label.
        vocabulary: Number of token ids.
        max_length: Tokens that the model reads at once.
    """

    inputs: CalibrationInputs
    windows: Sequence[Sequence[TokenIds]]
    targets: Scores | None
    thresholds: Scores
    vocabulary: int
    max_length: int


def load_run(run: Path, data: Path) -> BakeoffModel:
    """Load a trained run, with validation texts for calibration and test texts for evaluation."""
    details, rows = read_run(run), read_dataset(data)
    model, _ = checkpoint.load_model(str(run))
    long_text: LongText = make_long_text(details.max_length, details.long_text)
    reader = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(str(run)), details.max_length, long_text)
    windows = [window for one in reader.encode(rows.part("validation").texts) for window in one.windows]
    order = np.random.default_rng(0).permutation(len(windows))
    enough = int((np.cumsum([len(windows[place]) for place in order]) <= CALIBRATION_TOKENS).sum())
    test = rows.part("test").reorder(details.labels)
    return BakeoffModel(
        CalibrationInputs(
            build.build_fused_fp32(model),
            [ids for _, ids in group_by_length([windows[place] for place in order[:enough]])],
        ),
        [one.windows for one in reader.encode(test.texts)],
        test.targets,
        np.array(details.thresholds, np.float32),
        model.config.vocab_size,
        details.max_length,
    )


def load_random_bert() -> BakeoffModel:
    """Return an untrained BERT-base, for speed only."""
    model = build_random_bert(num_labels=28)
    vocabulary = model.config.vocab_size
    ids = np.random.default_rng(0).integers(0, vocabulary, (4, 64))
    return BakeoffModel(
        CalibrationInputs(build.build_fused_fp32(model), [ids]), [], None, np.zeros(0, np.float32), vocabulary, 512
    )


def make_runner(proto: onnx.ModelProto, scheme: Scheme) -> Callable[[TokenIds], Scores]:
    """Return a function that runs a scheme's graph on one thread, with its intended optimisation level."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if scheme.optimized else levels.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(ids: TokenIds) -> Scores:
        probabilities: Scores = session.run(["probabilities"], {"input_ids": ids})[0]
        return probabilities

    return run


def measure_accuracy(
    model_data: BakeoffModel, scheme: Scheme, proto: onnx.ModelProto, expected: Scores
) -> dict[str, Any]:
    """Compare probabilities and decisions with those of the fp32 graph, which equal PyTorch's within 1e-5."""
    assert model_data.targets is not None
    run, n_labels = make_runner(proto, scheme), len(model_data.thresholds)
    scores = score_texts(
        model_data.windows, run, n_labels=n_labels, max_tokens=1 if scheme.one_by_one else BATCH_TOKENS
    )
    windows = model_data.windows[:INVARIANCE_TEXTS]
    alone, together = (score_texts(windows, run, n_labels=n_labels, max_tokens=most) for most in (1, BATCH_TOKENS))
    difference = np.abs(scores.astype(np.float64) - expected)
    flips = decide(scores, model_data.thresholds) != decide(expected, model_data.thresholds)
    metrics = multilabel_metrics(scores, model_data.targets, model_data.thresholds)
    return {
        "mean_difference": float(difference.mean()),
        "max_difference": float(difference.max()),
        "flips": int(flips.sum()),
        "decisions": flips.size,
        "same_alone_and_in_company": bool((alone == together).all()),
        "micro_f1": metrics["micro_f1"],
        "macro_f1": metrics["macro_f1"],
    }


def measure_speed(
    model_data: BakeoffModel, schemes: Sequence[Scheme], protos: Sequence[onnx.ModelProto]
) -> dict[str, Any]:
    """Return, for each length, the last scheme's texts per second and its speed as a multiple of the first scheme's."""
    runs = [make_runner(proto, scheme) for scheme, proto in zip(schemes, protos, strict=True)]
    result = {}
    for length in (length for length in LENGTHS if length <= model_data.max_length):
        size = max(1, BATCH_TOKENS // length)
        ids = np.random.default_rng(length).integers(0, model_data.vocabulary, (size, length))
        parts = [np.split(ids, size) if scheme.one_by_one else [ids] for scheme in schemes]
        seconds: list[list[float]] = [[] for _ in runs]
        started = perf_counter()
        while len(seconds[0]) < 3 or (len(seconds[0]) < MAX_TURNS and perf_counter() - started < MAX_SECONDS):
            for run, mine, times in zip(runs, parts, seconds, strict=True):
                call_started = perf_counter()
                for part in mine:
                    run(part)
                times.append(perf_counter() - call_started)
        first, last = (float(np.median(times[1:])) for times in (seconds[0], seconds[-1]))
        result[str(length)] = {"texts_per_second": size / last, "against_reference": first / last}
    return result


@click.command()
@click.argument("what", type=click.Choice(["accuracy", "speed"]))
@click.argument("name")
@click.option("--run", type=click.Path(path_type=Path), help="A finished training.  [default: a random 12x768]")
@click.option("--data", type=click.Path(path_type=Path), help="Its CSV file, with splits.")
@click.option("--graphs", type=click.Path(path_type=Path), default="build/bakeoff", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A folder for result.json and README.md."
)
@click.option("--form", "names", multiple=True, type=click.Choice(list(SCHEMES)), help="Only this scheme.")
def main(
    what: str, name: str, run: Path | None, data: Path | None, graphs: Path, output: Path, names: Sequence[str]
) -> None:
    """Measure the int8 schemes of a model, called NAME in the table, that are not measured yet."""
    path = output / result_io.RESULT
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}
    measured = result["models"].setdefault(name, {})
    key = "mean_difference" if what == "accuracy" else "speed"
    missing = [each for each in names or SCHEMES if key not in measured.get(each, {})]
    if missing:
        model_data = load_run(run, data) if run and data else load_random_bert()
        reference = _load_graph(model_data, graphs / name, "fp32" if what == "accuracy" else REFERENCE)
    for each in missing:
        scheme, proto = SCHEMES[each], _load_graph(model_data, graphs / name, each)
        figures = measured.setdefault(each, {"bytes": proto.ByteSize()})
        if what == "accuracy":
            run_fp32 = make_runner(reference, SCHEMES["fp32"])
            figures |= measure_accuracy(
                model_data,
                scheme,
                proto,
                score_texts(model_data.windows, run_fp32, n_labels=len(model_data.thresholds)),
            )
        else:
            figures["speed"] = measure_speed(model_data, [SCHEMES[REFERENCE], scheme], [reference, proto])
        result["machine"] = describe_hardware()
        result_io.write_result(result, output, render_readme)
        click.echo(f"{name}, {each}: {json.dumps(figures)}")
    result_io.write_result(result, output, render_readme)


def _load_graph(model_data: BakeoffModel, folder: Path, name: str) -> onnx.ModelProto:
    """Return a scheme's graph, built once."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(SCHEMES[name].build(model_data.inputs), path)
    return onnx.load(path)


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    head = [
        "scheme",
        "mean difference",
        "max. difference",
        "changed decisions",
        "batch-invariant",
        "micro-F1",
        "macro-F1",
    ]
    head += [f"texts/s, {length} tokens" for length in LENGTHS] + ["MB"]
    lines = [
        "# int8 schemes",
        "",
        "Probabilities and decisions on the test split compared with fp32, at the run's thresholds. Texts per "
        f"second on one core, with the speed as a multiple of `{REFERENCE}`, which took turns with each; batches of "
        "512 tokens, except for `dynamic`, which scores one text per call because its scores depend on the batch. "
        "`make results-bakeoff`.",
        "",
        *(f"- `{name}`: {scheme.description}" for name, scheme in SCHEMES.items()),
    ]
    for model, measured in result["models"].items():
        lines += ["", f"## {model}", "", "| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
        lines += ["| " + " | ".join(_row(name, measured[name])) + " |" for name in SCHEMES if name in measured]
    return "\n".join([*lines, "", result_io.format_machine(result["machine"]) if "machine" in result else "", ""])


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    cells = [""] * 6
    if "mean_difference" in figures:
        cells = [f"{figures['mean_difference']:.2e}", f"{figures['max_difference']:.3f}"]
        cells += [
            f"{figures['flips']} of {figures['decisions']:,}",
            "yes" if figures["same_alone_and_in_company"] else "no",
        ]
        cells += [f"{figures['micro_f1']:.4f}", f"{figures['macro_f1']:.4f}"]
    speeds = [figures.get("speed", {}).get(str(length)) for length in LENGTHS]
    cells += [f"{s['texts_per_second']:,.0f} ({s['against_reference']:.2f}x)" if s else "" for s in speeds]
    return [name, *cells, f"{figures['bytes'] / 1e6:.1f}"]


if __name__ == "__main__":
    main()
