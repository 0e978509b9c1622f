"""Experiment: windows of long texts, and pooling. `run` measures, `README.md` has the result."""
