"""int8: weights rounded once, activations rounded per row at run time, scores independent of the batch.

In reading order: `int8` (the conversion of a graph), `activations` (rows to uint8) and `gptq` (weights to int8).
"""
