"""The model repository: a tokenizer, a graph and an ensemble of both, each with its config.pbtxt."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manylabel.bundle.bundle import TOKENIZER, Bundle
from manylabel.bundle.variants import choose_variant
from manylabel.engines.triton.tokenizer_backend import TokenizerSettings
from manylabel.errors import InputError
from manylabel.inference.ort_session import Session
from manylabel.system.atomic_write import atomic_folder

CONFIG = "config.pbtxt"
LABELS_FILE = "labels.txt"
DATA_TYPES = {"text": "TYPE_STRING", "probabilities": "TYPE_FP32", "truncated": "TYPE_BOOL"}
"""Types of the tensors; all others are 64-bit integers."""


@dataclass(frozen=True)
class ServingConfig:
    """How Triton serves the models.

    Attributes:
        name: The name of the ensemble; the names of the other two start with it.
        device: The device of the graph.
        max_batch_size: Texts in a batch at most.
        max_queue_size: Requests that may wait for each model; Triton rejects more.
        queue_delay_us: Microseconds that a request waits for others to share its batch.
        timeout_us: Microseconds after which a waiting request is rejected.

    Example:
        >>> ServingConfig("reviews", max_batch_size=32).max_queue_size
        256
    """

    name: str
    device: Literal["cpu", "cuda"] = "cpu"
    max_batch_size: int = 64
    max_queue_size: int = 256
    queue_delay_us: int = 500
    timeout_us: int = 1_000_000


def write_repository(
    bundle: Bundle,
    output: Path,
    serving: ServingConfig,
    *,
    long_text: Literal["error", "truncate"] | None = None,
    pad_to: int = 16,
    force: bool = False,
) -> None:
    """Write the repository atomically.

    Args:
        bundle: The bundle to serve.
        output: The folder of the repository.
        serving: How Triton serves the models.
        long_text: What happens to texts that exceed the model's length; None for the bundle's own policy.
        pad_to: Lengths are rounded up to a multiple of it.
        force: Replace an output that exists.

    Raises:
        InputError: The bundle scores long texts in windows, and `long_text` does not name another policy; or the bundle
            has no fp32 graph.
        OutputExists: The output exists, and `force` is False.
        BundleError: The bundle is damaged.

    Example:
        >>> write_repository(Bundle.open("bundle"), Path("models"), ServingConfig("reviews"), long_text="truncate")
        >>> sorted(model.name for model in Path("models").iterdir())
        ['reviews', 'reviews_graph', 'reviews_tokenizer']
    """
    manifest = bundle.manifest
    policy = long_text or manifest.long_text.policy
    if policy == "window":
        raise InputError(
            f"{bundle.path} scores texts of more than {manifest.max_length} tokens in windows, and a Triton ensemble "
            'returns one row per text. Choose --long-text error or --long-text truncate; "manylabel serve" has windows.'
        )
    variant = choose_variant(bundle, "cpu", "fp32")
    graph, weights = bundle.read(variant.file), {name: bundle.read(name) for name in bundle.weights_of(variant)}
    inputs = Session(graph, device="cpu", weights=weights).inputs
    settings = TokenizerSettings.from_manifest(manifest, inputs, long_text=policy, pad_to=pad_to)
    models: dict[str, tuple[str, dict[str, bytes]]] = {
        f"{serving.name}_tokenizer": (
            tokenizer_config(serving, inputs, {"settings": settings.to_text()}),
            {"model.py": (Path(__file__).parent / "model.py").read_bytes(), TOKENIZER: bundle.read(TOKENIZER)},
        ),
        f"{serving.name}_graph": (
            graph_config(serving, inputs, len(bundle.labels)),
            {"model.onnx": graph, **weights},
        ),
        serving.name: (ensemble_config(serving, inputs, bundle.labels, variant.thresholds), {}),
    }
    names = "".join(f"{' '.join(label.split())}\n" for label in bundle.labels)  # one line each
    with atomic_folder(output, force=force) as folder:
        for model, (config, files) in models.items():
            _write_model(folder / model, config, files)
        for model in (serving.name, f"{serving.name}_graph"):
            (folder / model / LABELS_FILE).write_text(names, encoding="utf-8")


def tokenizer_config(serving: ServingConfig, inputs: Sequence[str], parameters: Mapping[str, str]) -> str:
    """Return the configuration of the tokenizer: texts to token ids, on the CPU, in one process.

    Args:
        serving: How Triton serves the models.
        inputs: The graph's inputs.
        parameters: Strings that the Python backend reads.
    """
    return "\n".join(
        [
            f"name: {quote(serving.name + '_tokenizer')}",
            'backend: "python"',
            f"max_batch_size: {serving.max_batch_size}",
            *_tensors("input", {"text": 1}),
            *_tensors("output", {**dict.fromkeys(inputs, -1), "n_tokens": 1, "truncated": 1}),
            "instance_group [ { kind: KIND_CPU count: 1 } ]",
            _batching(serving),
            *(
                f"parameters {{ key: {quote(key)} value {{ string_value: {quote(value)} }} }}"
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def graph_config(serving: ServingConfig, inputs: Sequence[str], n_labels: int) -> str:
    """Return the configuration of the graph: token ids to probabilities. Requests of one length share a batch.

    Args:
        serving: How Triton serves the models.
        inputs: The graph's inputs.
        n_labels: The number of labels.
    """
    kind = "KIND_GPU" if serving.device == "cuda" else "KIND_CPU"
    return "\n".join(
        [
            f"name: {quote(serving.name + '_graph')}",
            'backend: "onnxruntime"',
            f"max_batch_size: {serving.max_batch_size}",
            *_tensors("input", dict.fromkeys(inputs, -1)),
            *_tensors("output", {"probabilities": n_labels}),
            f"instance_group [ {{ kind: {kind} count: 1 }} ]",
            _batching(serving),
            "",
        ]
    )


def ensemble_config(
    serving: ServingConfig, inputs: Sequence[str], labels: Sequence[str], thresholds: Sequence[float]
) -> str:
    """Return the configuration of the ensemble: texts to probabilities, with the thresholds as a parameter.

    Args:
        serving: How Triton serves the models.
        inputs: The graph's inputs.
        labels: The labels in column order.
        thresholds: The labels' thresholds.
    """
    by_label = json.dumps(dict(zip(labels, thresholds, strict=True)), ensure_ascii=False)
    ids = {name: name for name in inputs}
    flags = {"n_tokens": "n_tokens", "truncated": "truncated"}
    return "\n".join(
        [
            f"name: {quote(serving.name)}",
            'platform: "ensemble"',
            f"max_batch_size: {serving.max_batch_size}",
            *_tensors("input", {"text": 1}),
            *_tensors("output", {"probabilities": len(labels), "n_tokens": 1, "truncated": 1}),
            "ensemble_scheduling {",
            *_step(serving.name + "_tokenizer", {"text": "text"}, {**ids, **flags}),
            *_step(serving.name + "_graph", ids, {"probabilities": "probabilities"}),
            "}",
            f'parameters {{ key: "thresholds" value {{ string_value: {quote(by_label)} }} }}',
            "",
        ]
    )


def quote(text: str) -> str:
    r"""Return any text as a string of protobuf's text format.

    Example:
        >>> print(quote('price "net"'))
        "price \042net\042"
    """
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{escaped}"'


def _tensors(direction: str, dims: Mapping[str, int]) -> Iterable[str]:
    for name, size in dims.items():
        labels = f" label_filename: {quote(LABELS_FILE)}" if name == "probabilities" else ""
        data_type = DATA_TYPES.get(name, "TYPE_INT64")
        yield f"{direction} [ {{ name: {quote(name)} data_type: {data_type} dims: [ {size} ]{labels} }} ]"


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Iterable[str]:
    yield f"  step [ {{ model_name: {quote(model)} model_version: -1"
    for field, names in (("input_map", inputs), ("output_map", outputs)):
        for key, value in names.items():
            yield f"    {field} {{ key: {quote(key)} value: {quote(value)} }}"
    yield "  } ]"


def _batching(serving: ServingConfig) -> str:
    """Return the batching: batches form while a model is busy; a request that waits too long is rejected."""
    return (
        f"dynamic_batching {{ max_queue_delay_microseconds: {serving.queue_delay_us} default_queue_policy {{ "
        f"timeout_action: REJECT default_timeout_microseconds: {serving.timeout_us} allow_timeout_override: true "
        f"max_queue_size: {serving.max_queue_size} }} }}"
    )


def _write_model(folder: Path, config: str, files: Mapping[str, bytes]) -> None:
    """Write a model of one version; that of an ensemble is an empty folder."""
    (folder / "1").mkdir(parents=True)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    for name, content in files.items():
        (folder / "1" / name).write_bytes(content)
