"""Graph passes: each rewrites a graph into an equivalent one that is smaller or faster.

In the order in which they run: `canonicalize` (the standard fp32 graph with probabilities), `mask_elimination` (no mask
for texts of equal length), `fusion` with `attention_fusion` (contrib operators), `cls_pruning` (the last layer for the
first token only) and `fp16` (half precision for CUDA).
"""
