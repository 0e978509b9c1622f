"""OpenVINO: fp32, bf16, and int8 by NNCF, at the batch size and hint that are best on this machine."""

import hashlib
import json
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from manylabel_bench.contenders import Scores, Setting
from manylabel_bench.contenders.padded_batches import Array, Ids, Padded, plain_tokenizer, restored, sigmoid

FOLDER = "openvino"
SAMPLE = "sample.json"
"""Texts that were not measured on but are like those, for calibration and to choose the batch by; laid in `prepared`
by the comparison."""
SIZES = (1, 8, 32, 128)
HINTS = ("LATENCY", "THROUGHPUT")
CALIBRATION = 300
"""NNCF's own default."""
TRIED, TRIES = 200, 3
"""Texts by which batch and hint are chosen, and how often each way has them."""


class OpenVino(Padded):
    """Asynchronous requests over sorted batches; a single text by a model compiled for latency.

    Args:
        variant: `"fp32"`, `"bf16"` or `"int8"`.
        setting: Holds the model.
        size: Texts in a batch; None takes what was found to be best.
        hint: Of `HINTS`, likewise.
    """

    def __init__(self, variant: str, setting: Setting, *, size: int | None = None, hint: str | None = None) -> None:
        import openvino

        super().__init__(*plain_tokenizer(setting))
        folder = setting.folder(FOLDER)
        if size is None or hint is None:
            best = json.loads(_choice(variant, setting).read_text())
            size, hint = int(best["size"]), str(best["hint"])
        self._openvino, self._variant, self._threads = openvino, variant, setting.threads
        self._model = openvino.Core().read_model(folder / _file(variant))
        self._size, self._hint = size, hint
        self.batching = f"sorted {size}"

    @cached_property
    def _one(self) -> Any:
        return self._compile("LATENCY").create_infer_request()

    @cached_property
    def _many(self) -> Any:
        return self._openvino.AsyncInferQueue(self._compile(self._hint))

    def _compile(self, hint: str) -> Any:
        precision = "bf16" if self._variant == "bf16" else "f32"
        config = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        return self._openvino.Core().compile_model(self._model, "CPU", config)

    def forward(self, input_ids: Array, attention_mask: Array) -> Scores:
        """As `Padded.forward`."""
        self._one.infer([input_ids, attention_mask])
        return sigmoid(self._one.get_output_tensor(0).data)

    def run(self, tokens: Ids) -> Scores:
        """Probabilities in the order of the texts. One text goes alone, several at once on all streams."""
        if len(tokens) == 1:
            return super().run(tokens)
        return restored(self._asynchronously(tokens))

    def _asynchronously(self, tokens: Ids) -> Iterator[tuple[list[int], Scores]]:
        found: list[tuple[list[int], Scores]] = []
        self._many.set_callback(
            lambda request, rows: found.append((rows, sigmoid(request.get_output_tensor(0).data.copy())))
        )
        for rows, ids, mask in reversed(list(self.batches(tokens, self._size))):  # the longest first: all end together
            self._many.start_async([ids, mask], rows)
        self._many.wait_all()
        yield from found


def load(variant: str, setting: Setting) -> OpenVino:
    """`"fp32"`, `"bf16"` or `"int8"`."""
    return OpenVino(variant, setting)


def prepare(variant: str, setting: Setting) -> None:
    """Convert, quantise, and find the best batch size and hint on texts that are not measured."""
    folder = setting.folder(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    texts = json.loads((Path(setting.prepared) / SAMPLE).read_text(encoding="utf-8"))
    if not (folder / _file("fp32")).exists():
        _convert(setting, folder / _file("fp32"))
    if variant == "int8" and not (folder / _file("int8")).exists():
        _quantise(setting, texts[:CALIBRATION], folder)
    choice = _choice(variant, setting)
    if not choice.exists():
        tried = {
            (size, hint): _seconds(variant, setting, size, hint, texts[:TRIED]) for size in SIZES for hint in HINTS
        }
        size, hint = min(tried, key=lambda each: tried[each])
        best = {"size": size, "hint": hint, "tried": [[*each, seconds] for each, seconds in tried.items()]}
        choice.write_text(json.dumps(best))


def artefacts(variant: str, setting: Setting) -> list[Path]:
    """The files that someone ships who answers so."""
    model = setting.folder(FOLDER) / _file(variant)
    return [model, model.with_suffix(".bin"), Path(setting.bundle) / "tokenizer.json"]


def _file(variant: str) -> str:
    return "int8.xml" if variant == "int8" else "fp32.xml"  # bf16 is how fp32 is run


def _choice(variant: str, setting: Setting) -> Path:
    """Which batch and hint were best for such texts."""
    name = hashlib.sha256((Path(setting.prepared) / SAMPLE).read_bytes()).hexdigest()[:12]
    return setting.folder(FOLDER) / f"{variant}-{name}.json"


def _convert(setting: Setting, path: Path) -> None:
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    import manylabel_train.models.pooling  # noqa: F401 - makes known the model type of runs with another pooling

    model = AutoModelForSequenceClassification.from_pretrained(setting.model, torchscript=True).eval()
    ids = torch.ones((2, 8), dtype=torch.int64)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    dynamic = [(name, openvino.PartialShape([-1, -1]), openvino.Type.i64) for name in example]
    openvino.save_model(
        openvino.convert_model(model, example_input=example, input=dynamic), path, compress_to_fp16=False
    )


def _quantise(setting: Setting, texts: list[str], folder: Path) -> None:
    import nncf
    import openvino

    tokenise, _ = plain_tokenizer(setting)
    samples = [np.array([ids], dtype=np.int64) for ids in tokenise(texts)]
    quantised = nncf.quantize(
        openvino.Core().read_model(folder / _file("fp32")),
        nncf.Dataset(samples, lambda ids: {"input_ids": ids, "attention_mask": np.ones_like(ids)}),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(quantised, folder / _file("int8"), compress_to_fp16=False)


def _seconds(variant: str, setting: Setting, size: int, hint: str, texts: list[str]) -> float:
    """The best of some runs, once all is compiled."""
    contender = OpenVino(variant, setting, size=size, hint=hint)
    contender.scores(texts)
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        contender.scores(texts)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
