"""What the three config.pbtxt of a repository say, as protobuf's text format."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

TYPES = {"text": "TYPE_STRING", "probabilities": "TYPE_FP32", "truncated": "TYPE_BOOL"}
"""Of the tensors; all others are integers of 64 bits."""

LABELS = "labels.txt"


@dataclass(frozen=True)
class Serving:
    """How the models are served.

    Attributes:
        name: Of the ensemble; the others' begin with it.
        device: Where the graph runs.
        max_batch_size: Texts in a batch at most.
        max_queue_size: Requests that may wait for each model; more are refused.
        queue_delay_us: Microseconds that a request waits for others to share its batch.
        timeout_us: Microseconds after which a request that still waits is refused.
    """

    name: str
    device: Literal["cpu", "cuda"] = "cpu"
    max_batch_size: int = 64
    max_queue_size: int = 256
    queue_delay_us: int = 500
    timeout_us: int = 1_000_000


def tokenizer_config(serving: Serving, inputs: Sequence[str], parameters: Mapping[str, str]) -> str:
    """Texts to ids, on the CPU, one process."""
    return "\n".join(
        [
            f"name: {quoted(serving.name + '_tokenizer')}",
            'backend: "python"',
            f"max_batch_size: {serving.max_batch_size}",
            *_tensors("input", {"text": 1}),
            *_tensors("output", {**dict.fromkeys(inputs, -1), "n_tokens": 1, "truncated": 1}),
            "instance_group [ { kind: KIND_CPU count: 1 } ]",
            _batching(serving),
            *(
                f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}"
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def graph_config(serving: Serving, inputs: Sequence[str], n_labels: int) -> str:
    """Ids to probabilities. Requests whose ids have one length are batched."""
    kind = "KIND_GPU" if serving.device == "cuda" else "KIND_CPU"
    return "\n".join(
        [
            f"name: {quoted(serving.name + '_graph')}",
            'backend: "onnxruntime"',
            f"max_batch_size: {serving.max_batch_size}",
            *_tensors("input", dict.fromkeys(inputs, -1)),
            *_tensors("output", {"probabilities": n_labels}),
            f"instance_group [ {{ kind: {kind} count: 1 }} ]",
            _batching(serving),
            "",
        ]
    )


def ensemble_config(serving: Serving, inputs: Sequence[str], labels: Sequence[str], thresholds: Sequence[float]) -> str:
    """Texts to probabilities, by way of the two others. Its parameters have the labels and their thresholds."""
    decided = json.dumps(dict(zip(labels, thresholds, strict=True)), ensure_ascii=False)
    ids = {name: name for name in inputs}
    told = {"n_tokens": "n_tokens", "truncated": "truncated"}
    return "\n".join(
        [
            f"name: {quoted(serving.name)}",
            'platform: "ensemble"',
            f"max_batch_size: {serving.max_batch_size}",
            *_tensors("input", {"text": 1}),
            *_tensors("output", {"probabilities": len(labels), "n_tokens": 1, "truncated": 1}),
            "ensemble_scheduling {",
            *_step(serving.name + "_tokenizer", {"text": "text"}, {**ids, **told}),
            *_step(serving.name + "_graph", ids, {"probabilities": "probabilities"}),
            "}",
            f'parameters {{ key: "thresholds" value {{ string_value: {quoted(decided)} }} }}',
            "",
        ]
    )


def quoted(text: str) -> str:
    """A string of protobuf's text format, whatever it holds."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{escaped}"'


def _tensors(kind: str, dims: Mapping[str, int]) -> Iterable[str]:
    for name, size in dims.items():
        labels = f" label_filename: {quoted(LABELS)}" if name == "probabilities" else ""
        data_type = TYPES.get(name, "TYPE_INT64")
        yield f"{kind} [ {{ name: {quoted(name)} data_type: {data_type} dims: [ {size} ]{labels} }} ]"


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Iterable[str]:
    yield f"  step [ {{ model_name: {quoted(model)} model_version: -1"
    for kind, names in (("input_map", inputs), ("output_map", outputs)):
        for key, value in names.items():
            yield f"    {kind} {{ key: {quoted(key)} value: {quoted(value)} }}"
    yield "  } ]"


def _batching(serving: Serving) -> str:
    """Batches form on their own while a model is busy; who waits too long is refused rather than answered late."""
    return (
        f"dynamic_batching {{ max_queue_delay_microseconds: {serving.queue_delay_us} default_queue_policy {{ "
        f"timeout_action: REJECT default_timeout_microseconds: {serving.timeout_us} allow_timeout_override: true "
        f"max_queue_size: {serving.max_queue_size} }} }}"
    )
