"""Models: Hugging Face checkpoints, and the classification head on an encoder.

Read in this order:

- `checkpoint`: load a checkpoint and its tokenizer, and compute probabilities as the runtime does
- `classification_head`: the output layer and the label fields of a model's configuration
- `pooling`: a model type whose head reads the first token or the mean of all tokens
"""

DEFAULT_MODEL = "all-MiniLM-L6-v2"
"""The encoder that training starts from by default; comes with the extra `demo`."""
