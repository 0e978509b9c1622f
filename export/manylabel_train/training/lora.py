"""Low-rank adapters (Hu et al. 2021, "LoRA", eq. 3) for large encoders: put in before training, merged after it.

The adapters are trained inside the model, beside the head, which learns whole; what is written is a plain checkpoint.
"""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from manylabel.errors import CheckpointError, MissingDependency

RANK = 8
"""peft's default."""
SCALE = 2
"""Alpha over rank: 16 at rank 8."""
DROPOUT = 0.05
ADAPTER = ".lora_"
"""What the names of an adapter's parameters hold."""


def require_peft() -> None:
    """Say the line to type where peft is absent.

    Raises:
        MissingDependency: It is.
    """
    try:
        import peft  # noqa: F401
    except ImportError as exc:
        raise MissingDependency('peft is required for --lora. pip install "manylabel[export,lora,cpu]"') from exc


def add_adapters(model: PreTrainedModel, rank: int) -> None:
    """Put an adapter on every linear layer of the encoder and hold all else of it still. In place.

    All linear layers, as Dettmers et al. 2023 ("QLoRA", sec. 4) found necessary to match full fine-tuning. They are
    found by their kind, not by names that every architecture has of its own. The head, pooler included, stays trained.

    Args:
        model: A sequence classifier.
        rank: Of the adapters.

    Raises:
        CheckpointError: Its encoder has no linear layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    trained = {name for name, _ in model.named_parameters() if _in_head(model, name)}
    names = list(_linear_layers(model))
    if not names:
        raise CheckpointError(f"{type(model).__name__} has no linear layer to put an adapter on. Leave out --lora.")
    config = LoraConfig(r=rank, lora_alpha=SCALE * rank, lora_dropout=DROPOUT, target_modules=names)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or ADAPTER in name)


def merge_adapters(model: PreTrainedModel) -> None:
    """Add every adapter to the weights that it adapts, and take it out. In place."""
    from peft.tuners.lora import LoraLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    for name, layer in adapted:
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer.get_base_layer())
    model.requires_grad_(True)


def _linear_layers(model: PreTrainedModel) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not _in_head(model, f"{name}."):
            yield name


def _in_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a parameter is outside the encoder, or of its pooler."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name
