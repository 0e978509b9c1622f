"""Who is compared: each takes texts and gives probabilities, on the same number of threads.

One module a family, imported in the contender's own process alone; here is only what there is and what it needs. A
family has `load(variant, setting)` and, where it needs files of its own, `prepare(variant, setting)`.
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


class Contender(Protocol):
    """Something that scores texts.

    Attributes:
        batching: `"equal"` where batches hold texts of one length, else the order and the size of padded ones, such as
            `"sorted 32"` or `"as given 32"`.
    """

    batching: str

    def scores(self, texts: Sequence[str]) -> Scores:
        """Probabilities in the bundle's column order, shape `(len(texts), n_labels)`."""
        ...


class Staged(Contender, Protocol):
    """A contender that can be watched at work: its tokens and its run are steps of their own."""

    def tokenise(self, texts: Sequence[str]) -> Any:
        """What `run` takes."""
        ...

    def run(self, tokens: Any) -> Scores:
        """Probabilities, shape `(n_texts, n_labels)`."""
        ...


@dataclass(frozen=True)
class Setting:
    """What every contender is given.

    Attributes:
        bundle: The bundle's folder.
        checkpoint: The PyTorch checkpoint that it came from.
        prepared: Where the rivals' own models are kept.
        threads: For each of them.
        max_length: Tokens of a text that are read at once; a rival truncates there.
    """

    bundle: str
    checkpoint: str | None
    prepared: str
    threads: int
    max_length: int

    def given(self) -> dict[str, Any]:
        """For a process of its own."""
        return asdict(self)

    @property
    def model(self) -> str:
        """The checkpoint, of those that cannot do without: `missing` has asked."""
        assert self.checkpoint
        return self.checkpoint

    def folder(self, name: str) -> Path:
        """Where a family keeps what it has prepared."""
        return Path(self.prepared) / name


@dataclass(frozen=True)
class Kind:
    """A contender by name.

    Attributes:
        name: In results and on the command line.
        family: Its module here.
        variant: What the module is asked for.
        imports: Modules without which it is skipped.
        installs: Distributions that someone who wants to answer so installs; what they ask for comes with them.
        operands: Of its matrix products, where the machine's peak was measured for them: `"fp32"`, `"int8"` or `""`.
        needs_checkpoint: Whether the bundle alone will not do.
        prepares: Whether the family makes files first.
        files: Of the bundle, without which it is skipped.
    """

    name: str
    family: str
    variant: str
    imports: tuple[str, ...]
    installs: tuple[str, ...]
    operands: str
    needs_checkpoint: bool = True
    prepares: bool = False
    files: tuple[str, ...] = ()

    def missing(self, setting: Setting) -> str | None:
        """Why it cannot be measured here, in a few words."""
        if uninstalled := [name for name in self.imports if not _is_installed(name)]:
            return f"{', '.join(uninstalled)} not installed"
        if self.needs_checkpoint and setting.checkpoint is None:
            return "no --checkpoint"
        absent = [name for name in self.files if not (Path(setting.bundle) / name).is_file()]
        return f"no {', '.join(absent)} in the bundle" if absent else None

    def module(self) -> ModuleType:
        """The family's module."""
        return import_module(f"manylabel_bench.contenders.{self.family}")

    def load(self, setting: Setting) -> Contender:
        """Ready to answer."""
        contender: Contender = self.module().load(self.variant, setting)
        return contender


def bundled(precision: str) -> Kind:
    """A variant of the bundle in this package's runtime."""
    operands = precision if precision in ("fp32", "int8") else ""
    installs = ("manylabel", "onnxruntime")
    return Kind(f"manylabel {precision}", "manylabel", precision, ("onnxruntime",), installs, operands, False)


_TORCH, _OPTIMUM = ("torch", "transformers"), ("torch", "transformers", "optimum.onnxruntime")
_OPENVINO, _NNCF = ("torch", "transformers", "openvino"), ("torch", "transformers", "openvino", "nncf")
_PLAIN = ("onnxruntime", "tokenizers")
_CROSS = ("sentence_transformers", "optimum.onnxruntime")
_ANSWERS_OPTIMUM = ("optimum-onnx", "onnxruntime")
_ANSWERS_OPENVINO = ("openvino", "tokenizers")
_ANSWERS_CROSS = ("sentence-transformers", *_ANSWERS_OPTIMUM)

RIVALS = (
    Kind("pipeline", "transformers_pipeline", "", _TORCH, _TORCH, "fp32"),
    Kind("pytorch", "pytorch", "", _TORCH, _TORCH, "fp32"),
    Kind("pytorch bf16", "pytorch", "bf16", _TORCH, _TORCH, ""),
    Kind("pytorch compile", "pytorch", "compile", _TORCH, _TORCH, "fp32"),
    Kind("pytorch bf16 compile", "pytorch", "bf16 compile", _TORCH, _TORCH, ""),
    Kind("optimum fp32", "optimum", "fp32", _OPTIMUM, _ANSWERS_OPTIMUM, "fp32", prepares=True),
    Kind("optimum int8", "optimum", "int8", _OPTIMUM, _ANSWERS_OPTIMUM, "int8", prepares=True),
    Kind("onnxruntime", "onnxruntime", "", _PLAIN, _PLAIN, "fp32", needs_checkpoint=False, files=("model.onnx",)),
    Kind("openvino fp32", "openvino", "fp32", _OPENVINO, _ANSWERS_OPENVINO, "fp32", prepares=True),
    Kind("openvino bf16", "openvino", "bf16", _OPENVINO, _ANSWERS_OPENVINO, "", prepares=True),
    Kind("openvino int8", "openvino", "int8", _NNCF, _ANSWERS_OPENVINO, "int8", prepares=True),
    Kind("cross-encoder", "cross_encoder", "", _CROSS, _ANSWERS_CROSS, "fp32", prepares=True),
)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module would be in
        return False


def kind_of(name: str) -> Kind:
    """A contender by its name.

    Raises:
        KeyError: There is none.
    """
    if name.startswith("manylabel "):
        return bundled(name.removeprefix("manylabel "))
    return {kind.name: kind for kind in RIVALS}[name]
