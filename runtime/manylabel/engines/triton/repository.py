"""A bundle into a folder that Triton serves."""

from pathlib import Path
from typing import Literal

from manylabel.bundle.bundle import TOKENIZER, Bundle
from manylabel.bundle.variants import choose_variant
from manylabel.engines.triton import config_pbtxt
from manylabel.engines.triton.config_pbtxt import Serving
from manylabel.engines.triton.tokenizer_backend import Settings
from manylabel.errors import InputError
from manylabel.inference.ort_session import Session
from manylabel.system.atomic_write import atomic_folder

CONFIG = "config.pbtxt"


def write_repository(
    bundle: Bundle,
    output: Path,
    serving: Serving,
    *,
    long_text: Literal["error", "truncate"] | None = None,
    pad_to: int = 16,
    force: bool = False,
) -> None:
    """Write the repository; the folder appears when it is complete.

    Args:
        bundle: What is served.
        output: The repository.
        serving: How.
        long_text: What happens to texts that the model does not read at once; None for the bundle's own policy.
        pad_to: Lengths are rounded up to a multiple of it.
        force: Whether an output that is there is replaced.

    Raises:
        InputError: The bundle scores long texts in windows, and `long_text` does not say what to do without; or it has
            no fp32 graph.
        OutputExists: The output is there, and `force` was not given.
        BundleError: The bundle is damaged.
    """
    manifest = bundle.manifest
    policy = long_text or manifest.long_text.policy
    if policy == "window":
        raise InputError(
            f"{bundle.path} scores texts of more than {manifest.max_length} tokens in windows, and a Triton ensemble "
            'gives a row a text. Choose --long-text error or --long-text truncate; "manylabel serve" has windows.'
        )
    variant = choose_variant(bundle, "cpu", "fp32")
    graph, weights = bundle.read(variant.file), {name: bundle.read(name) for name in bundle.weights_of(variant)}
    inputs = Session(graph, device="cpu", weights=weights).inputs
    settings = Settings.of(manifest, inputs, long_text=policy, pad_to=pad_to)
    tokenizer = config_pbtxt.tokenizer_config(serving, inputs, {"settings": settings.to_text()})
    with atomic_folder(output, force=force) as folder:
        _model(folder / f"{serving.name}_tokenizer", tokenizer, {
            "model.py": (Path(__file__).parent / "model.py").read_bytes(),
            TOKENIZER: bundle.read(TOKENIZER),
        })  # fmt: skip
        graphs = folder / f"{serving.name}_graph"
        _model(graphs, config_pbtxt.graph_config(serving, inputs, len(bundle.labels)), {"model.onnx": graph, **weights})
        ensemble = folder / serving.name
        _model(ensemble, config_pbtxt.ensemble_config(serving, inputs, bundle.labels, variant.thresholds), {})
        names = "".join(f"{' '.join(label.split())}\n" for label in bundle.labels)  # a line each
        for each in (graphs, ensemble):
            (each / config_pbtxt.LABELS).write_text(names, encoding="utf-8")


def _model(folder: Path, config: str, files: dict[str, bytes]) -> None:
    """A model of one version; an ensemble's is an empty folder."""
    (folder / "1").mkdir(parents=True)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    for name, content in files.items():
        (folder / "1" / name).write_bytes(content)
