"""Experiment: onnxruntime settings and operator shares. `run` measures, `README.md` has the result."""
