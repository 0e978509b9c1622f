"""Certification: compare a bundle's variants with their reference on real texts, without PyTorch.

In the order in which to read it:

- `bootstrap_f1`: F1 over many labels, with confidence intervals;
- `parity`: compares a variant's probabilities and decisions with the reference's;
- `certify`: compares a bundle's variants with its fp32 graph on this machine;
- `cli`: `manylabel certify`.

`manylabel export` compares with PyTorch through the same `parity`.
"""
