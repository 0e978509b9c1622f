"""Experiment: calibration and threshold objectives.

`run` measures, `guarantee_coverage` checks minimums and guarantees; each data set has a folder with its result.
"""
