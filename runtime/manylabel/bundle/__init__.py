"""The bundle: the folder that export writes and the runtime reads. Uses neither the network nor ONNX Runtime.

In the order in which to read it:

- `manifest`: what `bundle.json` contains, and its canonical form;
- `certificate`: how the graphs compare with their reference, as the manifest records it;
- `strict_json`: JSON to frozen dataclasses, for the manifest and other files;
- `bundle`: `Bundle`, an opened folder whose files are verified as they are read;
- `variants`: which graph runs on a device, and whether it answers the bundle's probes as PyTorch did;
- `signing`: signatures by OpenSSF model signing.
"""
