"""NVIDIA Triton: a bundle as a model repository, which Triton's own server serves.

The repository has three models: `NAME` is an ensemble that sends texts through `NAME_tokenizer`, a Python backend, and
the token ids through `NAME_graph`, the bundle's fp32 graph on Triton's ONNX Runtime backend. In reading order:

    model_repository    writes the three models with their config.pbtxt
    tokenizer_backend   texts to padded tensors: what the Python backend calls
    model               the Python backend's file, copied into the repository and imported by Triton alone
    cli                 `manylabel triton`

Why fp32: Triton's dynamic batcher, and a request with several texts, put texts of different lengths into one tensor.
They are padded, so the graph needs an attention mask; the int8 and fp16 graphs are made for batches of one length and
have none.
"""
