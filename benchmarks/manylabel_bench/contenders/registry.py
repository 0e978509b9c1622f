"""The contenders that can be measured: their names, what each needs, and the protocol that each implements.

A contender takes texts and returns probabilities, on a given number of threads. Each family is a module beside this one
and is imported only in the contender's own process. A family has `load(variant, config)`, `model_files(variant,
config)` and, where it needs files of its own, `prepare(variant, config)`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""Probabilities, shape `(n_texts, n_labels)`."""


class Contender(Protocol):
    """A model that scores texts.

    Attributes:
        batching: `"equal"` where a batch holds texts of one length; otherwise the order and size of padded batches,
            such as `"sorted 32"` or `"as given 32"`.
    """

    batching: str

    def predict_proba(self, texts: Sequence[str]) -> Scores:
        """Return probabilities in the bundle's column order, shape `(len(texts), n_labels)`."""
        ...


class StagedContender(Contender, Protocol):
    """A contender whose tokenisation and inference are separate steps, which can be timed one by one."""

    def tokenise(self, texts: Sequence[str]) -> Any:
        """Return what `run` takes."""
        ...

    def run(self, tokens: Any) -> Scores:
        """Return probabilities, shape `(n_texts, n_labels)`."""
        ...


@dataclass(frozen=True)
class ContenderConfig:
    """The configuration that every contender gets.

    Attributes:
        bundle: The bundle's folder.
        checkpoint: The PyTorch checkpoint that the bundle was exported from.
        prepared: The folder in which baselines keep their own models.
        threads: Threads for each contender.
        max_length: Tokens of a text that are read at once; baselines truncate there.
    """

    bundle: str
    checkpoint: str | None
    prepared: str
    threads: int
    max_length: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, for the contender's process."""
        return asdict(self)

    @property
    def required_checkpoint(self) -> str:
        """The checkpoint, for contenders that need one; `unavailable_reason` has checked that it was given."""
        assert self.checkpoint
        return self.checkpoint

    def prepared_folder(self, name: str) -> Path:
        """Return the folder in which a family keeps the files that it prepared."""
        return Path(self.prepared) / name


@dataclass(frozen=True)
class ContenderSpec:
    """A contender by name, and what it needs.

    Attributes:
        name: Its name in results and on the command line.
        family: Its module in this folder.
        variant: The variant that the module is asked for.
        imports: Modules without which it is skipped.
        distributions: Distributions that a user of this contender installs; their dependencies come with them.
        operands: The type of its matrix multiplications, if the machine's peak is measured for it: `"fp32"`, `"int8"`
            or `""`.
        needs_checkpoint: Whether it needs the PyTorch checkpoint.
        prepares: Whether the family writes files first.
        files: Files of the bundle without which it is skipped.
    """

    name: str
    family: str
    variant: str
    imports: tuple[str, ...]
    distributions: tuple[str, ...]
    operands: str
    needs_checkpoint: bool = True
    prepares: bool = False
    files: tuple[str, ...] = ()

    def unavailable_reason(self, config: ContenderConfig) -> str | None:
        """Return in a few words why it cannot be measured here, or None."""
        if uninstalled := [name for name in self.imports if not _is_installed(name)]:
            return f"{', '.join(uninstalled)} not installed"
        if self.needs_checkpoint and config.checkpoint is None:
            return "no --checkpoint"
        absent = [name for name in self.files if not (Path(config.bundle) / name).is_file()]
        return f"no {', '.join(absent)} in the bundle" if absent else None

    def import_family(self) -> ModuleType:
        """Import the family's module."""
        return import_module(f"manylabel_bench.contenders.{self.family}")

    def load(self, config: ContenderConfig) -> Contender:
        """Load the contender, ready to score."""
        contender: Contender = self.import_family().load(self.variant, config)
        return contender


def bundle_contender(precision: str) -> ContenderSpec:
    """Return the contender that runs a variant of the bundle in `manylabel`."""
    operands = precision if precision in ("fp32", "int8") else ""
    installed = ("manylabel", "onnxruntime")
    return ContenderSpec(f"manylabel {precision}", "manylabel", precision, ("onnxruntime",), installed, operands, False)


_TORCH, _OPTIMUM = ("torch", "transformers"), ("torch", "transformers", "optimum.onnxruntime")
_OPENVINO, _NNCF = ("torch", "transformers", "openvino"), ("torch", "transformers", "openvino", "nncf")
_ORT = ("onnxruntime", "tokenizers")
_CROSS_ENCODER = ("sentence_transformers", "optimum.onnxruntime")
_OPTIMUM_INSTALL = ("optimum-onnx", "onnxruntime")
_OPENVINO_INSTALL = ("openvino", "tokenizers")
_CROSS_ENCODER_INSTALL = ("sentence-transformers", *_OPTIMUM_INSTALL)

BASELINES = (
    ContenderSpec("pipeline", "transformers_pipeline", "", _TORCH, _TORCH, "fp32"),
    ContenderSpec("pytorch", "pytorch", "", _TORCH, _TORCH, "fp32"),
    ContenderSpec("pytorch bf16", "pytorch", "bf16", _TORCH, _TORCH, ""),
    ContenderSpec("pytorch compile", "pytorch", "compile", _TORCH, _TORCH, "fp32"),
    ContenderSpec("pytorch bf16 compile", "pytorch", "bf16 compile", _TORCH, _TORCH, ""),
    ContenderSpec("optimum fp32", "optimum", "fp32", _OPTIMUM, _OPTIMUM_INSTALL, "fp32", prepares=True),
    ContenderSpec("optimum int8", "optimum", "int8", _OPTIMUM, _OPTIMUM_INSTALL, "int8", prepares=True),
    ContenderSpec("onnxruntime", "onnxruntime", "", _ORT, _ORT, "fp32", needs_checkpoint=False, files=("model.onnx",)),
    ContenderSpec("openvino fp32", "openvino", "fp32", _OPENVINO, _OPENVINO_INSTALL, "fp32", prepares=True),
    ContenderSpec("openvino bf16", "openvino", "bf16", _OPENVINO, _OPENVINO_INSTALL, "", prepares=True),
    ContenderSpec("openvino int8", "openvino", "int8", _NNCF, _OPENVINO_INSTALL, "int8", prepares=True),
    ContenderSpec("cross-encoder", "cross_encoder", "", _CROSS_ENCODER, _CROSS_ENCODER_INSTALL, "fp32", prepares=True),
)
"""What a user would run instead of a bundle."""


def find_contender(name: str) -> ContenderSpec:
    """Return a contender by its name.

    Raises:
        KeyError: No contender has this name.
    """
    if name.startswith("manylabel "):
        return bundle_contender(name.removeprefix("manylabel "))
    return {spec.name: spec for spec in BASELINES}[name]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
