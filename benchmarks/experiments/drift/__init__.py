"""Experiment: how often the drift monitor reports texts of the same kind and of another. `README.md` has the result."""
