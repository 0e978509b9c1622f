"""From a PyTorch classifier to ONNX graphs.

In reading order:

- `torch_export`: PyTorch to ONNX, with two engines.
- `ir/`: ONNX graphs as data: the editor, external weights, serialization.
- `analysis/`: value ranges, linear layers, calibration statistics.
- `passes/`: canonical graph, mask elimination, fusion, CLS pruning, fp16.
- `quantization/`: batch-invariant int8.
- `equivalence_check`: compares a graph with what it was made from.
- `build`: composes all of these to one graph per precision.
- `tokenizer/`: a graph that takes text, with the tokenizer and the thresholds inside.
"""

from manylabel.errors import require_extra

require_extra("export", "onnx", "torch")
