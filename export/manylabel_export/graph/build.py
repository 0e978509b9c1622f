"""Building graphs: a trained model to ONNX graphs in several precisions, with the sigmoid included.

Takes a loaded model and token ids and returns graphs. Only `torch_export` knows PyTorch; texts, tokenizers, labels,
thresholds and bundles are unknown here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx
from transformers import PreTrainedModel

from manylabel.bundle.manifest import PRECISIONS
from manylabel.errors import ExportError
from manylabel.inference.length_batching import TokenIds
from manylabel_export.graph.analysis.calibration_stats import collect_calibration_stats
from manylabel_export.graph.analysis.linear_layers import linear_layer_sizes
from manylabel_export.graph.equivalence_check import check_equivalence, graph_predictor
from manylabel_export.graph.ir.external_data import WeightStore
from manylabel_export.graph.ir.serialization import MAX_BYTES, raise_opset
from manylabel_export.graph.passes.canonicalize import append_sigmoid, canonicalize
from manylabel_export.graph.passes.cls_pruning import prune_last_layer
from manylabel_export.graph.passes.fp16 import convert_to_fp16, find_large_activations, fp16_layer_sizes
from manylabel_export.graph.passes.fusion import CPU, CUDA, check_fusion_counts, count_fusions, fuse_operators
from manylabel_export.graph.passes.mask_elimination import eliminate_mask
from manylabel_export.graph.quantization.int8 import Int8Quantiser, quantise_embeddings
from manylabel_export.graph.torch_export import pytorch_predictor, trace
from manylabel_train.models.pooling import PooledConfig, encoder_config

UNCALIBRATED = "int8 was not calibrated: there were no validation texts."


@dataclass(frozen=True)
class Graph:
    """The graph of one variant.

    Attributes:
        precision: `"fp32"`, `"int8"` or `"fp16"`.
        proto: Inputs int64 `(batch, sequence)`; outputs `probabilities` and `logits`, float32 `(batch, num_labels)`.
            `fp32` takes a mask and runs in every ONNX runtime. The others take only `input_ids`, of texts with the
            same number of tokens, and use ONNX Runtime's contrib operators. They are already optimised: ONNX Runtime
            1.32 changes no node of int8 at any optimisation level, so `ORT_DISABLE_ALL` costs nothing.
        provider: The execution provider that it is made for.
        fusions: How often each fused operator occurs, before the last layer was pruned.
        is_pruned: Whether the last layer is computed for the first token only.
        note: What could not be done, as a sentence, or "".
        layer_sizes: The layers that can stay in fp32, by name, with their numbers of weights.
    """

    precision: str
    proto: onnx.ModelProto = field(repr=False)
    provider: str
    fusions: Mapping[str, int]
    is_pruned: bool = False
    note: str = ""
    layer_sizes: Mapping[str, int] = field(default_factory=dict)
    _convert: Callable[[Collection[str]], onnx.ModelProto] | None = field(default=None, repr=False)

    def with_fp32_layers(self, names: Collection[str]) -> Graph:
        """Return the variant with some of its `layer_sizes` in fp32."""
        assert self._convert is not None
        return replace(self, proto=self._convert(names))


def build_graphs(
    model: PreTrainedModel,
    *,
    engine: str = "auto",
    precisions: Sequence[str] = PRECISIONS,
    batches: Sequence[TokenIds] = (),
    store: WeightStore | None = None,
    limit: int = MAX_BYTES,
) -> dict[str, Graph]:
    """Return the graphs of all requested variants by precision; see `iter_graphs`."""
    graphs = iter_graphs(model, engine=engine, precisions=precisions, batches=batches, store=store, limit=limit)
    return {graph.precision: graph for graph in graphs}


def iter_graphs(
    model: PreTrainedModel,
    *,
    engine: str = "auto",
    precisions: Sequence[str] = PRECISIONS,
    batches: Sequence[TokenIds] = (),
    store: WeightStore | None = None,
    limit: int = MAX_BYTES,
) -> Iterator[Graph]:
    """Build the graphs of a sequence classifier one after another, so that memory need not hold all of them.

    Args:
        model: A loaded multi-label `...ForSequenceClassification`. It is not changed, but ends in eval mode.
        engine: `"optimum"`, `"torch"` or `"auto"`, see `torch_export.trace`.
        precisions: The variants to build.
        batches: Token ids of real texts, each `(batch, sequence)`, for the calibration of int8. Without them int8 is
            less accurate, and its note says so.
        store: Where large weights go while graphs are built and used; None to keep them in the graphs.
        limit: The largest model, in bytes of fp32 weights, that fp16 can be made of.

    Yields:
        The graphs in the requested order.

    Raises:
        ExportError: The architecture cannot be traced, its fusions differ from the expected ones, or fp16 is requested
            for a model of more than `limit` bytes.
    """
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown:
        raise ExportError(f"precision must be one of {', '.join(PRECISIONS)}, not {unknown[0]!r}.")
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    if "fp16" in precisions and size > limit:
        raise ExportError(
            f"the model has {size:,} bytes of fp32 weights, but fp16 can be made of {limit:,} at most. Choose "
            "--precision int8, --precision fp32, or both."
        )
    base = canonicalize(append_sigmoid(trace(model, engine=engine, store=store)))
    vocabulary = encoder_config(model.config).vocab_size
    check_equivalence(pytorch_predictor(model), base, vocabulary=vocabulary, padding=True, step="Tracing")
    builders = {"fp32": _build_fp32, "int8": _build_int8, "fp16": _build_fp16}
    for precision in precisions:
        yield builders[precision](base, model, batches, store)


def build_fused_fp32(model: PreTrainedModel) -> onnx.ModelProto:
    """Return the fused fp32 graph that int8 is made from, for comparisons with other quantisers."""
    base = canonicalize(append_sigmoid(trace(model)))
    return _fuse(raise_opset(base), model, CPU, None).proto


def _build_fp32(
    base: onnx.ModelProto, model: PreTrainedModel, batches: Sequence[TokenIds], store: WeightStore | None
) -> Graph:
    return Graph("fp32", base, CPU, {})


def _build_int8(
    base: onnx.ModelProto, model: PreTrainedModel, batches: Sequence[TokenIds], store: WeightStore | None
) -> Graph:
    fused = _fuse(raise_opset(base), model, CPU, store)
    stats = collect_calibration_stats(fused.proto, batches) if batches else {}
    convert = Int8Quantiser(quantise_embeddings(fused.proto), stats).quantise
    note = fused.note if batches else " ".join(filter(None, (fused.note, UNCALIBRATED)))
    sizes = linear_layer_sizes(fused.proto)
    return replace(fused, precision="int8", proto=convert(()), note=note, layer_sizes=sizes, _convert=convert)


def _build_fp16(
    base: onnx.ModelProto, model: PreTrainedModel, batches: Sequence[TokenIds], store: WeightStore | None
) -> Graph:
    fused = _fuse(base, model, CUDA, store)
    large = find_large_activations(fused.proto, batches)

    def convert(fp32_layers: Collection[str]) -> onnx.ModelProto:
        return convert_to_fp16(fused.proto, large, fp32_layers)

    sizes = fp16_layer_sizes(fused.proto, large)
    return replace(fused, precision="fp16", proto=convert(()), layer_sizes=sizes, _convert=convert)


def _fuse(base: onnx.ModelProto, model: PreTrainedModel, provider: str, store: WeightStore | None) -> Graph:
    """Build the fused and pruned fp32 graph that a variant for one provider is made from."""
    config = encoder_config(model.config)
    fused = fuse_operators(eliminate_mask(base, store), config, provider=provider)
    note = check_fusion_counts(fused, config, provider, own_head=not isinstance(model.config, PooledConfig))
    pruned, is_pruned = prune_last_layer(fused)
    check_equivalence(graph_predictor(base), pruned, vocabulary=config.vocab_size, padding=False, step="Fusing")
    return Graph("fp32", pruned, provider, count_fusions(fused), is_pruned, note)
