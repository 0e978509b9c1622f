"""Engines that are installed already: thin adapters, in which each process loads the model once.

In reading order:

    model_spec   which bundle a process loads, and how: the value that engines ship to their workers
    ray          prediction columns for a Ray dataset, and files scored by shards on a pool of actors
    spark        prediction columns for a Spark DataFrame
    triton/      a bundle as a model repository for NVIDIA's Triton Inference Server
"""
