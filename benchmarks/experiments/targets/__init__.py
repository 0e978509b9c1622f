"""Experiment: which performance targets the committed results reach. `run` measures, `README.md` has the result."""
