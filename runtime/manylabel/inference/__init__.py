"""From texts to probabilities to labels: tokenizer, batching, ONNX Runtime. Does not depend on bundles or files.

In the order in which a text passes through:

- `tokenizer`: texts to token ids, in windows if they are long;
- `length_batching`: batches of equal length without padding, and split on out-of-memory;
- `ort_loader`: import ONNX Runtime, choose a device;
- `ort_session`: one graph, arrays in, arrays out;
- `latency_session`: a second session whose threads share a single text;
- `cuda_graphs`: captured CUDA graphs for single short texts;
- `pipeline`: an iterable of texts of any length through all of these, in bounded memory;
- `predictions`: `Prediction`, `PredictionBatch` and the `Predictor` protocol;
- `thresholding`: probabilities and thresholds to labels.
"""
