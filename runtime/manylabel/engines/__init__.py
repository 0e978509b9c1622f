"""The same scorer on an engine that is there already: thin adapters, each process of which loads the model once.

`ray` and `spark` answer data sets of these engines; `triton` writes what NVIDIA's server serves.
"""
