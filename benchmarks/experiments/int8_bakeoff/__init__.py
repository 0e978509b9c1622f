"""Experiment: int8 schemes.

`run` measures, `schemes` builds the graphs, `random_bert` writes an untrained BERT-base.
"""
