"""A graph that takes text: WordPiece tokenizer, windows, model and thresholds in one ONNX file.

In reading order: `wordpiece_spec` (what a `tokenizer.json` specifies) with `char_table` (its effect on each character),
`string_ops` (string operators), `pre_tokenize` (a text to characters), `wordpiece_lookup` (characters to token ids),
`build` (the whole graph: ids to windows, probabilities to labels) and `verify` (comparison with the tokenizer and the
bundle).
"""
