"""Experiment: accuracy and speed on a GPU. `run` measures, `README.md` has the result."""
