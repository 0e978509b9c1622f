"""A trained model in, ONNX graphs out: traced, with the sigmoid inside, fused, in several precisions.

Boundary: this package knows PyTorch only in `tracing`, and knows nothing of texts, tokenizers, labels,
thresholds or bundles. It takes a loaded model and returns graphs.

In reading order: `tracing` (PyTorch to ONNX), `outputs` (the sigmoid), `cleaning` (the graph for everyone),
`maskless` (nothing that equally long texts do not need, by `intervals` and `mean`), `fusion` with `attention` (larger
operators), `first_token` (the last layer for one token), `int8` with `products`, `moments`, `activations`, `weights`
and `embedding`, `fp16`; `editor` is their common tool, `store` keeps large weights in a file, `packing` serialises (by
`fields`), also what is too large for one message, and `agreement` refuses what a step got wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray
from transformers import PreTrainedModel

from manylabel.errors import ExportError
from manylabel_export.graph.analysis.linear_layers import products_of
from manylabel_export.graph.equivalence_check import answer_of, assert_agreement
from manylabel_export.graph.ir.external_data import Store
from manylabel_export.graph.ir.serialization import MAX_BYTES, write
from manylabel_export.graph.passes.append_sigmoid import append_sigmoid
from manylabel_export.graph.passes.canonicalize import clean
from manylabel_export.graph.passes.cls_pruning import cut_to_first_token
from manylabel_export.graph.passes.fp16 import halve, large_activations, parts_of
from manylabel_export.graph.passes.fusion import CPU, CUDA, check_counts, count_fusions, fuse
from manylabel_export.graph.passes.mask_elimination import drop_mask
from manylabel_export.graph.quantization.calibration_stats import measure
from manylabel_export.graph.quantization.embeddings import quantise_embeddings
from manylabel_export.graph.quantization.int8 import Quantisation, raise_opset
from manylabel_export.graph.torch_export import pytorch_answer, resolve_engine, trace
from manylabel_train.models.pooling import PooledConfig, encoder_config

__all__ = ["MAX_BYTES", "PRECISIONS", "Graph", "Store", "build", "build_each", "fused", "resolve_engine", "write"]

PRECISIONS = ("fp32", "int8", "fp16")
UNFITTED = "int8 was not fitted to real texts: there were none."


@dataclass(frozen=True)
class Graph:
    """One variant of a model.

    Attributes:
        precision: `"fp32"`, `"int8"` or `"fp16"`.
        proto: Inputs int64 `(batch, sequence)`; outputs `probabilities` and `logits`, float32 `(batch, num_labels)`.
            `fp32` takes a mask and is for every ONNX runtime. The others take `input_ids` alone, of texts with the
            same number of tokens, and use ONNX Runtime's own operators. They are optimised already: at any level of
            optimisation ONNX Runtime 1.32 leaves int8 node for node as it is, so `ORT_DISABLE_ALL` loses nothing.
        provider: The execution provider that it is meant for.
        fusions: How often each fused operator occurs, counted before the last layer was cut.
        first_token: Whether the last layer is computed for the first token only.
        note: What could not be done, as a sentence, or "".
        products: Those that can be left in fp32, by name, and how many weights each has; empty where none can.
    """

    precision: str
    proto: onnx.ModelProto = field(repr=False)
    provider: str
    fusions: Mapping[str, int]
    first_token: bool = False
    note: str = ""
    products: Mapping[str, int] = field(default_factory=dict)
    _made: Callable[..., onnx.ModelProto] | None = field(default=None, repr=False)

    def keeping(self, names: Collection[str]) -> Graph:
        """The same variant with some of its `products` left in fp32."""
        assert self._made is not None
        return replace(self, proto=self._made(keep=names))


Ids = NDArray[np.int64]


def build(
    model: PreTrainedModel,
    *,
    engine: str = "auto",
    precisions: Sequence[str] = PRECISIONS,
    batches: Sequence[Ids] = (),
    store: Store | None = None,
    limit: int = MAX_BYTES,
) -> dict[str, Graph]:
    """All variants that are asked for, by precision; see `build_each`."""
    made = build_each(model, engine=engine, precisions=precisions, batches=batches, store=store, limit=limit)
    return {each.precision: each for each in made}


def build_each(
    model: PreTrainedModel,
    *,
    engine: str = "auto",
    precisions: Sequence[str] = PRECISIONS,
    batches: Sequence[Ids] = (),
    store: Store | None = None,
    limit: int = MAX_BYTES,
) -> Iterator[Graph]:
    """Exports a sequence classifier, one variant after another, so that memory need not hold all.

    Args:
        model: A loaded multi-label `...ForSequenceClassification`. It ends in eval mode and is otherwise untouched.
        engine: `"optimum"`, `"torch"` or `"auto"`, see `tracing.trace`.
        precisions: Which variants to make.
        batches: Token ids of real texts, each `(batch, sequence)`, that int8 is fitted to. Without them it is less
            exact, and its note says so.
        store: Where large weights are kept while graphs are made, and as long as they are used; None for in the graphs.
        limit: Bytes of weights that fp16 is made of at most.

    Yields:
        The variants in the order asked for.

    Raises:
        ExportError: The architecture cannot be traced, or is fused otherwise than it should be; or fp16 is to be made
            of more than `limit` bytes.
    """
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown:
        raise ExportError(f"precision {unknown[0]!r} is not one of {', '.join(PRECISIONS)}.")
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    if "fp16" in precisions and size > limit:
        raise ExportError(
            f"the model has {size:,} bytes of fp32 weights; fp16 can be made of {limit:,} at most. Choose "
            "--precision int8 or --precision fp32, or both."
        )
    base = clean(append_sigmoid(trace(model, engine=engine, store=store)))
    vocabulary = encoder_config(model.config).vocab_size
    assert_agreement(pytorch_answer(model), base, vocabulary=vocabulary, padding=True, step="Tracing")
    makers = {"fp32": _fp32, "int8": _int8, "fp16": _fp16}
    for precision in precisions:
        yield makers[precision](base, model, batches, store)


def _fp32(base: onnx.ModelProto, model: PreTrainedModel, batches: Sequence[Ids], store: Store | None) -> Graph:
    return Graph("fp32", base, CPU, {})


def _int8(base: onnx.ModelProto, model: PreTrainedModel, batches: Sequence[Ids], store: Store | None) -> Graph:
    plain = _fused(raise_opset(base), model, CPU, store)
    moments = measure(plain.proto, batches) if batches else {}
    made = Quantisation(quantise_embeddings(plain.proto), moments).graph
    note = plain.note if batches else " ".join(filter(None, (plain.note, UNFITTED)))
    return replace(plain, precision="int8", proto=made(), note=note, products=products_of(plain.proto), _made=made)


def _fp16(base: onnx.ModelProto, model: PreTrainedModel, batches: Sequence[Ids], store: Store | None) -> Graph:
    plain = _fused(base, model, CUDA, store)
    large = large_activations(plain.proto, batches)
    made = partial(halve, plain.proto, large)
    return replace(plain, precision="fp16", proto=made(), products=parts_of(plain.proto, large), _made=made)


def fused(model: PreTrainedModel) -> onnx.ModelProto:
    """The fp32 graph that int8 is made from, for whoever makes it otherwise."""
    return _fused(raise_opset(clean(append_sigmoid(trace(model)))), model, CPU, None).proto


def _fused(base: onnx.ModelProto, model: PreTrainedModel, provider: str, store: Store | None) -> Graph:
    """The fp32 graph that a variant for one provider is made from."""
    config = encoder_config(model.config)
    whole = fuse(drop_mask(base, store), config, provider=provider)
    note = check_counts(whole, config, provider, own_head=not isinstance(model.config, PooledConfig))
    cut, is_cut = cut_to_first_token(whole)
    assert_agreement(answer_of(base), cut, vocabulary=config.vocab_size, padding=False, step="Fusing")
    return Graph("fp32", cut, provider, count_fusions(whole), is_cut, note)
