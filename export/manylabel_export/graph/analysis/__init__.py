"""What is known about a graph before it is rewritten.

In reading order: `value_ranges` (bounds of tensors by interval arithmetic), `linear_layers` (the MatMuls with a weight,
and their names) and `calibration_stats` (statistics of activations on real texts).
"""
