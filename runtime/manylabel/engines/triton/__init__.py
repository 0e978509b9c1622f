"""NVIDIA Triton: a bundle as a model repository, which its own server serves.

Three models: `NAME` is an ensemble, which sends texts through `NAME_tokenizer`, a Python backend, and the token ids
through `NAME_graph`, the bundle's fp32 graph on Triton's ONNX Runtime. `repository` writes them, `configs` says what
their config.pbtxt holds, `model` is the Python backend's file, `tokenising` what it calls.

Why fp32: Triton's dynamic batcher and a request of several texts put texts of unlike lengths into one tensor. They are
padded, so the graph has to have a mask; the int8 and fp16 graphs are made for batches of one length and have none.
"""
