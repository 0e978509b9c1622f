"""Which form of int8 answers most like PyTorch, alone and in company, and how fast is it?

Accuracy is on texts that neither the model nor a form has seen, and may be measured beside other work; speed is on one
core, each form in turns with the row-wise one. Both go on where they were interrupted: one form of one model at a time.
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
from experiments.int8_bakeoff.random_bert import bert
from experiments.int8_bakeoff.schemes import FORMS, Form, Ids, Material
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
TURNS, SECONDS = 15, 2.0
"""Turns of two forms at a length at most, and about how long they may take."""

REFERENCE = "row-wise"
ALONE = 100
"""Texts that are scored both alone and in company."""

FITTED_TOKENS = 8192

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A model and its texts.

    Attributes:
        material: What forms are made from.
        windows: Token ids of each test text's windows.
        targets: Their labels, or None for a random model.
        thresholds: Per label, of the run.
        vocabulary: Number of token ids.
        longest: Tokens that the model reads at once.
    """

    material: Material
    windows: Sequence[Sequence[Ids]]
    targets: Scores | None
    thresholds: Scores
    vocabulary: int
    longest: int


def load(run: Path, data: Path) -> Subject:
    """A trained run, with validation texts to fit by and test texts to judge by."""
    details, rows = read_run(run), read_dataset(data)
    model, _ = checkpoint.load_model(str(run))
    long_text: LongText = make_long_text(details.max_length, details.long_text)
    reader = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(str(run)), details.max_length, long_text)
    fitted = [window for one in reader.encode(rows.part("validation").texts) for window in one.windows]
    order = np.random.default_rng(0).permutation(len(fitted))
    enough = int((np.cumsum([len(fitted[place]) for place in order]) <= FITTED_TOKENS).sum())
    test = rows.part("test").reorder(details.labels)
    return Subject(
        Material(
            build.build_fused_fp32(model),
            [ids for _, ids in group_by_length([fitted[place] for place in order[:enough]])],
        ),
        [one.windows for one in reader.encode(test.texts)],
        test.targets,
        np.array(details.thresholds, np.float32),
        model.config.vocab_size,
        details.max_length,
    )


def random_subject() -> Subject:
    """A BERT-base without training, for speed alone."""
    model = bert(num_labels=28)
    vocabulary = model.config.vocab_size
    ids = np.random.default_rng(0).integers(0, vocabulary, (4, 64))
    return Subject(Material(build.build_fused_fp32(model), [ids]), [], None, np.zeros(0, np.float32), vocabulary, 512)


def runner(proto: onnx.ModelProto, form: Form) -> Callable[[Ids], Scores]:
    """A form on one thread, loaded as it is meant to be."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if form.ours else levels.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(ids: Ids) -> Scores:
        found: Scores = session.run(["probabilities"], {"input_ids": ids})[0]
        return found

    return run


def measure_accuracy(subject: Subject, form: Form, proto: onnx.ModelProto, expected: Scores) -> dict[str, Any]:
    """How probabilities and decisions compare with those of the fp32 graph, which are PyTorch's within 1e-5."""
    assert subject.targets is not None
    run, n_labels = runner(proto, form), len(subject.thresholds)
    found = score_texts(subject.windows, run, n_labels=n_labels, max_tokens=1 if form.alone else BATCH_TOKENS)
    some = subject.windows[:ALONE]
    alone, together = (score_texts(some, run, n_labels=n_labels, max_tokens=most) for most in (1, BATCH_TOKENS))
    difference = np.abs(found.astype(np.float64) - expected)
    flips = decide(found, subject.thresholds) != decide(expected, subject.thresholds)
    metrics = multilabel_metrics(found, subject.targets, subject.thresholds)
    return {
        "mean_difference": float(difference.mean()),
        "max_difference": float(difference.max()),
        "flips": int(flips.sum()),
        "decisions": flips.size,
        "same_alone_and_in_company": bool((alone == together).all()),
        "micro_f1": metrics["micro_f1"],
        "macro_f1": metrics["macro_f1"],
    }


def measure_speed(subject: Subject, forms: Sequence[Form], protos: Sequence[onnx.ModelProto]) -> dict[str, Any]:
    """Texts a second of the last form, and its speed as a multiple of the first's, by the number of tokens."""
    runs = [runner(proto, form) for form, proto in zip(forms, protos, strict=True)]
    result = {}
    for length in (length for length in LENGTHS if length <= subject.longest):
        size = max(1, BATCH_TOKENS // length)
        ids = np.random.default_rng(length).integers(0, subject.vocabulary, (size, length))
        parts = [np.split(ids, size) if form.alone else [ids] for form in forms]
        seconds: list[list[float]] = [[] for _ in runs]
        started = perf_counter()
        while len(seconds[0]) < 3 or (len(seconds[0]) < TURNS and perf_counter() - started < SECONDS):
            for run, mine, times in zip(runs, parts, seconds, strict=True):
                begun = perf_counter()
                for part in mine:
                    run(part)
                times.append(perf_counter() - begun)
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
@click.option("--form", "names", multiple=True, type=click.Choice(list(FORMS)), help="Some forms alone.")
def main(
    what: str, name: str, run: Path | None, data: Path | None, graphs: Path, output: Path, names: Sequence[str]
) -> None:
    """Measure the forms of a model, called NAME in the table, that are not measured yet."""
    path = output / result_io.RESULT
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}
    measured = result["models"].setdefault(name, {})
    key = "mean_difference" if what == "accuracy" else "speed"
    missing = [each for each in names or FORMS if key not in measured.get(each, {})]
    if missing:
        subject = load(run, data) if run and data else random_subject()
        reference = _graph(subject, graphs / name, "fp32" if what == "accuracy" else REFERENCE)
    for each in missing:
        form, proto = FORMS[each], _graph(subject, graphs / name, each)
        found = measured.setdefault(each, {"bytes": proto.ByteSize()})
        if what == "accuracy":
            answer = runner(reference, FORMS["fp32"])
            found |= measure_accuracy(
                subject, form, proto, score_texts(subject.windows, answer, n_labels=len(subject.thresholds))
            )
        else:
            found["speed"] = measure_speed(subject, [FORMS[REFERENCE], form], [reference, proto])
        result["machine"] = describe_hardware()
        result_io.write(result, output, markdown(result))
        click.echo(f"{name}, {each}: {json.dumps(found)}")
    result_io.write(result, output, markdown(result))


def _graph(subject: Subject, folder: Path, name: str) -> onnx.ModelProto:
    """A form's graph, made once."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(FORMS[name].make(subject.material), path)
    return onnx.load(path)


def markdown(result: dict[str, Any]) -> str:
    """The page beside result.json."""
    head = ["form", "mean difference", "greatest", "flips", "same in company", "micro-F1", "macro-F1"]
    head += [f"texts/s, {length} tokens" for length in LENGTHS] + ["MB"]
    lines = [
        "# Forms of int8",
        "",
        "Probabilities and decisions on the test split against fp32, at the run's thresholds. Texts a second on one "
        f"core, with the speed as a multiple of `{REFERENCE}`, which took turns with each; batches of 512 tokens, "
        "but for `dynamic`: it takes one text a call, as its answer depends on neighbours. `make results-bakeoff`.",
        "",
        *(f"- `{name}`: {form.says}" for name, form in FORMS.items()),
    ]
    for model, forms in result["models"].items():
        lines += ["", f"## {model}", "", "| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
        lines += ["| " + " | ".join(_row(name, forms[name])) + " |" for name in FORMS if name in forms]
    return "\n".join([*lines, "", result_io.machine_line(result["machine"]) if "machine" in result else "", ""])


def _row(name: str, found: dict[str, Any]) -> list[str]:
    cells = [""] * 6
    if "mean_difference" in found:
        cells = [f"{found['mean_difference']:.2e}", f"{found['max_difference']:.3f}"]
        cells += [f"{found['flips']} of {found['decisions']:,}", "yes" if found["same_alone_and_in_company"] else "no"]
        cells += [f"{found['micro_f1']:.4f}", f"{found['macro_f1']:.4f}"]
    speeds = [found.get("speed", {}).get(str(length)) for length in LENGTHS]
    cells += [f"{s['texts_per_second']:,.0f} ({s['against_reference']:.2f}x)" if s else "" for s in speeds]
    return [name, *cells, f"{found['bytes'] / 1e6:.1f}"]


if __name__ == "__main__":
    main()
