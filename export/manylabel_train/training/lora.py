"""Low-rank adapters for large encoders (Hu et al. 2021, "LoRA", eq. 3): added before training, merged after it.

The adapters are trained together with the head, which is trained in full; what is written is a plain checkpoint.
"""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from manylabel.errors import CheckpointError, MissingDependency

SCALE = 2
"""Alpha over rank: 16 at rank 8, peft's default."""
DROPOUT = 0.05
ADAPTER = ".lora_"
"""Part of the names of an adapter's parameters."""


def require_peft() -> None:
    """Raise if peft is not installed.

    Raises:
        MissingDependency: peft is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as exc:
        raise MissingDependency('peft is required for --lora. pip install "manylabel[export,lora,cpu]"') from exc


def add_adapters(model: PreTrainedModel, rank: int) -> None:
    """Add an adapter to every linear layer of the encoder, and freeze the encoder's other parameters, in place.

    All linear layers, which Dettmers et al. 2023 ("QLoRA", sec. 4) found necessary to match full fine-tuning. They are
    found by their type, because names differ between architectures. The head, pooler included, stays trainable.

    Args:
        model: A sequence classifier.
        rank: The adapters' rank.

    Raises:
        CheckpointError: The encoder has no linear layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    trained = {name for name, _ in model.named_parameters() if _is_in_head(model, name)}
    names = list(_find_linear_layers(model))
    if not names:
        raise CheckpointError(f"{type(model).__name__} has no linear layer for an adapter. Leave out --lora.")
    config = LoraConfig(r=rank, lora_alpha=SCALE * rank, lora_dropout=DROPOUT, target_modules=names)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or ADAPTER in name)


def merge_adapters(model: PreTrainedModel) -> None:
    """Merge every adapter into the weights that it adapts, and remove it, in place."""
    from peft.tuners.lora import LoraLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    for name, layer in adapted:
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer.get_base_layer())
    model.requires_grad_(True)


def _find_linear_layers(model: PreTrainedModel) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not _is_in_head(model, f"{name}."):
            yield name


def _is_in_head(model: PreTrainedModel, name: str) -> bool:
    """Return whether a parameter is outside the encoder, or in its pooler."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name
