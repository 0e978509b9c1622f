"""`manylabel doctor`: check what a machine can run and what an endpoint returns; each finding has the next command.

In the order in which to read it:

- `environment`: `Finding`; the installed packages, the CPU cores and the CPU's int8 instructions;
- `providers`: runs a tiny model on every execution provider of ONNX Runtime;
- `endpoint_client`: sends texts to a running server, in whichever protocol it speaks;
- `activation_diagnosis`: compares its scores with PyTorch's: right, a softmax, logits, or a sigmoid applied twice;
- `cli`: the command.

It needs neither PyTorch nor, for the machine, a bundle. A broken onnxruntime is reported, not raised.
"""
