"""Bundles on the Hugging Face Hub: `hf://USER/MODEL@REVISION` wherever a bundle's folder is accepted.

A bundle on the Hub is downloaded once per commit to a folder of regular files in the cache, which is then opened and
verified like any other. In the order in which to read it:

- `client`: `HubReference`, and the one place that imports `huggingface_hub` and translates its errors;
- `download`: `open_bundle` and `resolve_bundle_path`, from a reference or a path to a folder;
- `upload`: a bundle as one commit; `cli` is its command, `manylabel push`.
"""

from manylabel.hub.client import HubReference
from manylabel.hub.download import open_bundle, resolve_bundle_path

__all__ = ["HubReference", "open_bundle", "resolve_bundle_path"]
