"""Experiment: what a model forgets when a label is added. `run` measures, `README.md` has the result."""
