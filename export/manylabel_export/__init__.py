"""Exports a multi-label checkpoint as a bundle: ONNX graphs in several precisions, checked against PyTorch.

Needs the extra `export`; the runtime never imports this package. In reading order:

- `cli`: the command `manylabel export`.
- `pipeline`: the steps of an export, from a checkpoint to a bundle.
- `source`: the checkpoint and the texts that its graphs are evaluated on.
- `variants`: the variants of a bundle, built and evaluated one by one.
- `evaluator`: parity of a graph with PyTorch.
- `mixed_precision`: layers that stay in fp32 to keep a variant within its budget.
- `graph/`: ONNX graphs from a PyTorch model.
- `vocabulary_pruning/`: a smaller vocabulary.
- `single_file`: a graph that takes text.
- `bundle_writer`: the files of a bundle.
- `card/`: its model card.

Example:
    >>> from manylabel_export import export
    >>> export("run", "exported", precisions=["fp32"]).labels
    ('billing', 'delivery', 'price', 'user experience')
"""

from typing import TYPE_CHECKING, Any

import manylabel  # noqa: F401 - turns off onnxruntime's telemetry, and must therefore be imported before onnxruntime

if TYPE_CHECKING:
    from manylabel_export.pipeline import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, because they import torch."""
    if name in __all__:
        from manylabel_export import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
