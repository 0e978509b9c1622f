"""Bundles on a hub: `hf://USER/MODEL@REVISION` where a folder is taken, and `manylabel push`.

A bundle of the hub becomes a folder of regular files in the cache, once for every commit, which is then opened and
verified as any other. `client` alone knows `huggingface_hub`; nothing here knows what a bundle's graphs are.
"""
