"""Check that the runtime's environment is small and has no PyTorch. Run by its Python before test tools are added."""

import sys
from importlib.metadata import distributions
from pathlib import Path

LIMIT_MB = 250
UNWANTED = {"torch", "transformers", "optimum", "onnx", "scikit-learn", "pyarrow"}

site = Path(next(path for path in sys.path if path.endswith("site-packages")))
size = sum(file.lstat().st_size for file in site.rglob("*") if file.is_file()) / 1e6
present = UNWANTED & {distribution.name.lower() for distribution in distributions()}
print(f"{site}: {size:.0f} MB; {len(list(distributions()))} packages")
if present:
    sys.exit(f"the runtime's environment contains {', '.join(sorted(present))}, on which the runtime must not depend.")
if size > LIMIT_MB:
    sys.exit(f"the runtime's environment has {size:.0f} MB; the limit is {LIMIT_MB} MB.")
