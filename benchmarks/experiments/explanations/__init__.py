"""Experiment: deletion curves of explanations. `run` measures, `README.md` has the result."""
