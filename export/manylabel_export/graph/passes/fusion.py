"""Operator fusion for CPU and for CUDA, and the number of fusions expected for each known architecture."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import onnx
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from transformers import PretrainedConfig

from manylabel.errors import ExportError
from manylabel_export.graph.ir.editor import GraphEditor, copy_model
from manylabel_export.graph.ir.external_data import embed_weights
from manylabel_export.graph.passes.attention_fusion import fuse_attention

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
COUNTED_OPERATORS = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "LayerNormalization",
    "BiasGelu",
    "Gelu",
    "FastGelu",
)
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh")  # the tanh approximation, which FastGelu computes exactly


def fuse_operators(proto: onnx.ModelProto, config: PretrainedConfig, *, provider: str) -> onnx.ModelProto:
    """Fuse a graph without a mask for one provider.

    Args:
        proto: A graph whose only input is `input_ids`.
        config: The configuration of the encoder.
        provider: `"CPUExecutionProvider"` or `"CUDAExecutionProvider"`.

    Returns:
        A new model.
    """
    # for CUDA the optimizer reads the tables of embeddings, and it cannot read external data
    editor = GraphEditor(embed_weights(proto) if provider == CUDA else copy_model(proto))
    heads, width = getattr(config, "num_attention_heads", 0), getattr(config, "hidden_size", 0)
    if heads and width % heads == 0:
        fuse_attention(editor, heads, width // heads, packed=provider == CUDA)
    with silence_optimizer():
        fused = optimizer.optimize_model(
            editor.finish(), "bert", heads, width, optimization_options=_options(config, provider), opt_level=0
        )
    return GraphEditor(fused.model).finish()


def _options(config: PretrainedConfig, provider: str) -> FusionOptions:
    options = FusionOptions("bert")
    options.disable_attention_mask()
    options.enable_attention = False  # done by attention_fusion.py
    options.enable_gelu_approximation = False  # the erf form is not approximated
    # On CPU the fused SkipLayerNormalization is slower: it takes 14 to 22 % of a run of MiniLM-L6, and Add with
    # LayerNormalization a third of that (ONNX Runtime 1.32, one core of Zen 4). EmbedLayerNormalization gains nothing
    # (0.99 to 1.01 of the time without it). BiasGelu takes 0.57 ms for 512 rows of 1,536, Gelu 0.33 and Add 0.1:
    # without it a run is 2 to 3 % faster and gives the same bits. On CUDA all save kernel launches and passes over
    # memory.
    options.enable_skip_layer_norm = provider == CUDA
    options.enable_bias_skip_layer_norm = provider == CUDA
    options.enable_bias_gelu = provider == CUDA
    # The optimizer assumes that positions start at 0, but Nystromformer's start at 2: fuse known architectures only.
    expected = EXPECTED_FUSIONS.get(config.model_type)
    options.enable_embed_layer_norm = provider == CUDA and expected is not None and expected.embedding
    return options


def count_fusions(proto: onnx.ModelProto) -> dict[str, int]:
    """Return how often each fused operator occurs; operators that do not occur are left out."""
    counts = Counter(node.op_type for node in proto.graph.node)
    return {name: counts[name] for name in COUNTED_OPERATORS if counts[name]}


@contextmanager
def silence_optimizer() -> Iterator[None]:
    """Silence the optimizer's warnings about patterns that it does not find; the fusion counts are checked instead."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class ExpectedFusions:
    """The fusions expected for an architecture, before the last layer is pruned.

    Attributes:
        attention: Whether its attention becomes one operator.
        biased: Whether a bias precedes the GELU of its feed-forward part and is fused with it on CUDA.
        embedding: Whether its embeddings and their normalisation become one operator on CUDA.
        head_gelus: Number of GELUs in its classification head.
        head_norms: Number of normalisations in its classification head.
        note: What stays unfused and why, for readers of the manifest.
    """

    attention: bool = True
    biased: bool = True
    embedding: bool = True
    head_gelus: int = 0
    head_norms: int = 0
    note: str = ""

    def counts(self, config: PretrainedConfig, provider: str) -> dict[str, int]:
        """Return how often each of `COUNTED_OPERATORS` must occur."""
        layers = config.num_hidden_layers
        counts = Counter({_gelu(config, biased=self.biased and provider == CUDA): layers})
        counts["Gelu"] += self.head_gelus
        counts["Attention" if provider == CUDA else "MultiHeadAttention"] = self.attention * layers
        counts["SkipLayerNormalization" if provider == CUDA else "LayerNormalization"] = 2 * layers
        is_embedding_fused = provider == CUDA and self.embedding
        counts["EmbedLayerNormalization" if is_embedding_fused else "LayerNormalization"] += 1
        counts["LayerNormalization"] += self.head_norms
        return {name: counts[name] for name in COUNTED_OPERATORS if counts[name]}


# The same with transformers 4.57 and 5.23 and with both engines; tests/export/graph/passes/test_fusion.py checks them.
EXPECTED_FUSIONS = {
    "bert": ExpectedFusions(),
    "distilbert": ExpectedFusions(),
    "roberta": ExpectedFusions(),
    "xlm-roberta": ExpectedFusions(),
    "camembert": ExpectedFusions(),
    "albert": ExpectedFusions(),
    "electra": ExpectedFusions(head_gelus=1),
    "mpnet": ExpectedFusions(),
    "deberta-v2": ExpectedFusions(
        attention=False,
        embedding=False,
        head_gelus=1,
        note="Attention stays unfused: its scores depend on relative positions in three parts (disentangled).",
    ),
    "modernbert": ExpectedFusions(
        attention=False,
        biased=False,
        embedding=False,
        head_gelus=1,
        head_norms=1,
        note="Attention stays unfused: queries and keys are rotated after they were split into heads.",
    ),
}


def check_fusion_counts(
    proto: onnx.ModelProto, config: PretrainedConfig, provider: str, *, own_head: bool = True
) -> str:
    """Compare the number of fusions with `EXPECTED_FUSIONS`.

    Args:
        proto: The fused graph.
        config: The configuration of the encoder.
        provider: The provider that the graph was fused for.
        own_head: Whether the head is the architecture's own, rather than a linear layer after a pooling.

    Returns:
        What stayed unfused, as a sentence, or "".

    Raises:
        ExportError: The counts of a known architecture differ from the expected ones.
    """
    counts, expected = count_fusions(proto), EXPECTED_FUSIONS.get(config.model_type)
    if expected is None or not _is_usual(config):
        return (
            f"Fused as far as recognised ({config.model_type} in this configuration has no entry in the table of "
            f"expected fusions): {counts}."
        )
    expected = expected if own_head else replace(expected, head_gelus=0, head_norms=0)
    expected_counts = expected.counts(config, provider)
    if counts != expected_counts:
        raise ExportError(
            f"Fusing {config.model_type} with {config.num_hidden_layers} layers for {provider} gave {counts}, but "
            f"{expected_counts} was expected. Use the versions in constraints/optimum.txt of the repository, or export "
            "with --precision fp32."
        )
    return expected.note


def _gelu(config: PretrainedConfig, *, biased: bool) -> str:
    name = _activation(config)
    return "FastGelu" if name in TANH_GELUS else "BiasGelu" if biased else "Gelu"


def _activation(config: PretrainedConfig) -> str:
    for field in ("hidden_act", "activation", "hidden_activation"):
        if isinstance(getattr(config, field, None), str):
            return str(getattr(config, field))
    return ""


def _is_usual(config: PretrainedConfig) -> bool:
    """Return whether `EXPECTED_FUSIONS` applies to a configuration: rare options add or change operators."""
    return (
        _activation(config) in ("gelu", *TANH_GELUS)
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and not getattr(config, "conv_kernel_size", 0)
        and not (config.model_type == "deberta-v2" and getattr(config, "position_biased_input", True))
    )
