"""Baseline: OpenVINO in fp32, bf16 and int8 (by NNCF), with the batch size and hint that are best on this machine."""

import hashlib
import json
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.inference.thresholding import sigmoid
from manylabel_bench.contenders.padded_batches import (
    PaddedContender,
    PaddedIds,
    Tokens,
    load_bundle_tokenizer,
    restore_order,
)
from manylabel_bench.contenders.registry import ContenderConfig, Scores

FOLDER = "openvino"
SAMPLE_FILE = "sample.json"
"""Texts that are similar to the measured ones but not among them, for calibration and for choosing the batch size. The
comparison writes them into the `prepared` folder."""
BATCH_SIZES = (1, 8, 32, 128)
HINTS = ("LATENCY", "THROUGHPUT")
CALIBRATION_TEXTS = 300
"""The default of NNCF."""
TUNING_TEXTS, TUNING_REPEATS = 200, 3
"""The number of texts for choosing batch size and hint, and how often each combination scores them."""


class OpenVinoContender(PaddedContender):
    """Asynchronous requests over sorted batches; a single text is scored by a model compiled for latency.

    Args:
        variant: `"fp32"`, `"bf16"` or `"int8"`.
        config: Names the folder with the converted model.
        size: Texts in a batch; None takes the tuned size.
        hint: One of `HINTS`; None takes the tuned hint.
    """

    def __init__(
        self, variant: str, config: ContenderConfig, *, size: int | None = None, hint: str | None = None
    ) -> None:
        import openvino

        super().__init__(*load_bundle_tokenizer(config))
        if size is None or hint is None:
            best = json.loads(_tuned_path(variant, config).read_text())
            size, hint = int(best["size"]), str(best["hint"])
        self._openvino, self._variant, self._threads = openvino, variant, config.threads
        self._model = openvino.Core().read_model(config.prepared_folder(FOLDER) / _model_name(variant))
        self._size, self._hint = size, hint
        self.batching = f"sorted {size}"

    @cached_property
    def _latency_request(self) -> Any:
        return self._compile("LATENCY").create_infer_request()

    @cached_property
    def _queue(self) -> Any:
        return self._openvino.AsyncInferQueue(self._compile(self._hint))

    def _compile(self, hint: str) -> Any:
        options = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": "bf16" if self._variant == "bf16" else "f32",
        }
        return self._openvino.Core().compile_model(self._model, "CPU", options)

    def forward(self, input_ids: PaddedIds, attention_mask: PaddedIds) -> Scores:
        """Score one padded batch, synchronously."""
        self._latency_request.infer([input_ids, attention_mask])
        return sigmoid(self._latency_request.get_output_tensor(0).data).astype(np.float32)

    def run(self, tokens: Tokens) -> Scores:
        """Return probabilities in the order of the texts; several texts run at once on all streams."""
        if len(tokens) == 1:
            return super().run(tokens)
        return restore_order(self._run_async(tokens))

    def _run_async(self, tokens: Tokens) -> Iterator[tuple[list[int], Scores]]:
        scored: list[tuple[list[int], Scores]] = []
        self._queue.set_callback(
            lambda request, rows: scored.append((rows, sigmoid(request.get_output_tensor(0).data).astype(np.float32)))
        )
        # The longest first, so that all streams end at about the same time.
        for rows, ids, mask in reversed(list(self.batches(tokens, self._size))):
            self._queue.start_async([ids, mask], rows)
        self._queue.wait_all()
        yield from scored


def load(variant: str, config: ContenderConfig) -> OpenVinoContender:
    """Load `"fp32"`, `"bf16"` or `"int8"`."""
    return OpenVinoContender(variant, config)


def prepare(variant: str, config: ContenderConfig) -> None:
    """Convert, quantise, and find the best batch size and hint on texts that are not measured."""
    folder = config.prepared_folder(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    texts = json.loads((Path(config.prepared) / SAMPLE_FILE).read_text(encoding="utf-8"))
    if not (folder / _model_name("fp32")).exists():
        _convert(config, folder / _model_name("fp32"))
    if variant == "int8" and not (folder / _model_name("int8")).exists():
        _quantise(config, texts[:CALIBRATION_TEXTS], folder)
    tuned = _tuned_path(variant, config)
    if not tuned.exists():
        seconds = {
            (size, hint): _best_seconds(variant, config, size, hint, texts[:TUNING_TEXTS])
            for size in BATCH_SIZES
            for hint in HINTS
        }
        size, hint = min(seconds, key=lambda combination: seconds[combination])
        tried = [[*combination, value] for combination, value in seconds.items()]
        tuned.write_text(json.dumps({"size": size, "hint": hint, "tried": tried}))


def model_files(variant: str, config: ContenderConfig) -> list[Path]:
    """Return the files that a deployment of this contender ships."""
    model = config.prepared_folder(FOLDER) / _model_name(variant)
    return [model, model.with_suffix(".bin"), Path(config.bundle) / "tokenizer.json"]


def _model_name(variant: str) -> str:
    return "int8.xml" if variant == "int8" else "fp32.xml"  # bf16 is a way to run fp32


def _tuned_path(variant: str, config: ContenderConfig) -> Path:
    """Return the file with the best batch size and hint for texts like the sample."""
    digest = hashlib.sha256((Path(config.prepared) / SAMPLE_FILE).read_bytes()).hexdigest()[:12]
    return config.prepared_folder(FOLDER) / f"{variant}-{digest}.json"


def _convert(config: ContenderConfig, path: Path) -> None:
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    import manylabel_train.models.pooling  # noqa: F401 - registers the model type of runs with another pooling

    source = config.required_checkpoint
    model = AutoModelForSequenceClassification.from_pretrained(source, torchscript=True).eval()
    ids = torch.ones((2, 8), dtype=torch.int64)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    dynamic = [(name, openvino.PartialShape([-1, -1]), openvino.Type.i64) for name in example]
    openvino.save_model(
        openvino.convert_model(model, example_input=example, input=dynamic), path, compress_to_fp16=False
    )


def _quantise(config: ContenderConfig, texts: list[str], folder: Path) -> None:
    import nncf
    import openvino

    tokenise, _ = load_bundle_tokenizer(config)
    samples = [np.array([ids], dtype=np.int64) for ids in tokenise(texts)]
    quantised = nncf.quantize(
        openvino.Core().read_model(folder / _model_name("fp32")),
        nncf.Dataset(samples, lambda ids: {"input_ids": ids, "attention_mask": np.ones_like(ids)}),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(quantised, folder / _model_name("int8"), compress_to_fp16=False)


def _best_seconds(variant: str, config: ContenderConfig, size: int, hint: str, texts: list[str]) -> float:
    """Return the shortest time of several passes, after one that compiles."""
    contender = OpenVinoContender(variant, config, size=size, hint=hint)
    contender.predict_proba(texts)
    seconds = []
    for _ in range(TUNING_REPEATS):
        started = time.perf_counter()
        contender.predict_proba(texts)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
