"""The contenders: models that score the same texts, each in a process of its own.

In reading order: `registry` names them and says what each needs; `manylabel` runs a variant of the bundle;
`padded_batches` is what the baselines share; `pytorch`, `transformers_pipeline`, `onnxruntime`, `optimum`, `openvino`
and `cross_encoder` are one baseline family each. To add a contender, add a module with `load` and `model_files`, and a
`ContenderSpec` in `registry`.
"""
