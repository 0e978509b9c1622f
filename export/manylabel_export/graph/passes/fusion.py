"""Larger operators for fewer passes over memory: one form for CPU, one for CUDA, and what to expect of them."""

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
from manylabel_export.graph.ir.editor import Editor, clone
from manylabel_export.graph.ir.external_data import hold
from manylabel_export.graph.passes.attention_fusion import fuse_attention

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
COUNTED = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "LayerNormalization",
    "BiasGelu",
    "Gelu",
    "FastGelu",
)
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh")  # spelled by tanh, for which FastGelu is the exact operator


def fuse(proto: onnx.ModelProto, config: PretrainedConfig, *, provider: str) -> onnx.ModelProto:
    """Fuses a maskless graph for one provider.

    Args:
        proto: A graph whose only input is `input_ids`.
        config: The configuration of the model it was traced from.
        provider: `"CPUExecutionProvider"` or `"CUDAExecutionProvider"`.

    Returns:
        A new model.
    """
    # the optimizer reads tables of embeddings before it fuses them for CUDA, and no files
    editor = Editor(hold(proto) if provider == CUDA else clone(proto))
    heads, width = getattr(config, "num_attention_heads", 0), getattr(config, "hidden_size", 0)
    if heads and width % heads == 0:
        fuse_attention(editor, heads, width // heads, packed=provider == CUDA)
    with quiet_optimizer():
        fused = optimizer.optimize_model(
            editor.finish(), "bert", heads, width, optimization_options=_options(config, provider), opt_level=0
        )
    return Editor(fused.model).finish()


def _options(config: PretrainedConfig, provider: str) -> FusionOptions:
    options = FusionOptions("bert")
    options.disable_attention_mask()
    options.enable_attention = False  # done already, see attention.py
    options.enable_gelu_approximation = False  # exact erf stays exact
    # On CPU the fused SkipLayerNormalization is the slower one: 14 to 22 % of a run of MiniLM-L6, against a third
    # of that for Add + LayerNormalization (ONNX Runtime 1.32, one core of Zen 4), and EmbedLayerNormalization
    # gains nothing (0.99 to 1.01 of the time without it). BiasGelu takes 0.57 ms for 512 rows of 1,536 where Gelu takes
    # 0.33 and Add 0.1: without it a run is 2 to 3 % faster, bit for bit the same. On CUDA all save launches and passes.
    options.enable_skip_layer_norm = provider == CUDA
    options.enable_bias_skip_layer_norm = provider == CUDA
    options.enable_bias_gelu = provider == CUDA
    # The optimizer takes positions for 0, 1, 2, ... where Nystromformer's begin at 2: only where it is known.
    known = EXPECTED.get(config.model_type)
    options.enable_embed_layer_norm = provider == CUDA and known is not None and known.embedding
    return options


def count_fusions(proto: onnx.ModelProto) -> dict[str, int]:
    """How often each fused operator occurs; operators that do not occur are left out."""
    counts = Counter(node.op_type for node in proto.graph.node)
    return {name: counts[name] for name in COUNTED if counts[name]}


@contextmanager
def quiet_optimizer() -> Iterator[None]:
    """The optimizer warns about each pattern that it does not find; the counts tell that better."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Expected:
    """How an architecture fuses, counted before the last layer is cut.

    Attributes:
        attention: Whether its attention becomes one operator.
        biased: Whether a bias precedes the GELU of its feed-forward part, and is fused with it on CUDA.
        embedding: Whether its embeddings and their normalisation become one operator on CUDA.
        head_gelus: GELUs in its classification head.
        head_norms: Normalisations in its classification head.
        note: What stays unfused and why, for whoever reads the manifest.
    """

    attention: bool = True
    biased: bool = True
    embedding: bool = True
    head_gelus: int = 0
    head_norms: int = 0
    note: str = ""

    def counts(self, config: PretrainedConfig, provider: str) -> dict[str, int]:
        """How often each operator of `COUNTED` must occur."""
        layers = config.num_hidden_layers
        counts = Counter({_gelu(config, biased=self.biased and provider == CUDA): layers})
        counts["Gelu"] += self.head_gelus
        counts["Attention" if provider == CUDA else "MultiHeadAttention"] = self.attention * layers
        counts["SkipLayerNormalization" if provider == CUDA else "LayerNormalization"] = 2 * layers
        fused = provider == CUDA and self.embedding
        counts["EmbedLayerNormalization" if fused else "LayerNormalization"] += 1
        counts["LayerNormalization"] += self.head_norms
        return {name: counts[name] for name in COUNTED if counts[name]}


# Found with transformers 4.57 and 5.23 alike, and with both engines; tests/export/graph/test_build.py holds it.
EXPECTED = {
    "bert": Expected(),
    "distilbert": Expected(),
    "roberta": Expected(),
    "xlm-roberta": Expected(),
    "camembert": Expected(),
    "albert": Expected(),
    "electra": Expected(head_gelus=1),
    "mpnet": Expected(),
    "deberta-v2": Expected(
        attention=False,
        embedding=False,
        head_gelus=1,
        note="Attention stays unfused: its scores depend on relative positions in three parts (disentangled).",
    ),
    "modernbert": Expected(
        attention=False,
        biased=False,
        embedding=False,
        head_gelus=1,
        head_norms=1,
        note="Attention stays unfused: queries and keys are rotated after they were split into heads.",
    ),
}


def check_counts(proto: onnx.ModelProto, config: PretrainedConfig, provider: str, *, own_head: bool = True) -> str:
    """Holds what was fused against `EXPECTED`.

    Args:
        proto: The fused graph.
        config: Of the encoder.
        provider: What it was fused for.
        own_head: Whether the head is the architecture's own, not a linear layer after a pooling.

    Returns:
        What stayed unfused, as a sentence, or "".

    Raises:
        ExportError: A known architecture was fused otherwise than expected.
    """
    found, expected = count_fusions(proto), EXPECTED.get(config.model_type)
    if expected is None or not _is_usual(config):
        return f"Fused as far as recognised ({config.model_type} in this configuration is not in the table): {found}."
    wanted = (expected if own_head else replace(expected, head_gelus=0, head_norms=0)).counts(config, provider)
    if found != wanted:
        raise ExportError(
            f"Fusing {config.model_type} with {config.num_hidden_layers} layers for {provider} gave {found}, "
            f"and {wanted} was expected. Use the versions in constraints.txt, or export fp32 only."
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
    """Whether a configuration is built as `EXPECTED` has it: rare options add or change operators."""
    return (
        _activation(config) in ("gelu", *TANH_GELUS)
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and not getattr(config, "conv_kernel_size", 0)
        and not (config.model_type == "deberta-v2" and getattr(config, "position_biased_input", True))
    )
