"""The README's example without this package runs, and returns the bundle's probabilities."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from tests.helpers.blocks import ROOT, blocks

from manylabel import Classifier


def test_plain_onnxruntime_matches_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (code,) = (block.code for block in blocks(ROOT / "README.md") if "onnxruntime.InferenceSession" in block.code)
    (tmp_path / "bundle").symlink_to(bundle)
    script = f"import sys\n{code}\nprint(*probabilities[0].tolist())\nassert 'manylabel' not in sys.modules"
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = re.search(r'encode\("(.*?)"\)', code).group(1)
    expected = Classifier.load(bundle, device="cpu", precision="fp32").predict_proba(text)[0]
    np.testing.assert_allclose(np.array(done.stdout.split(), dtype=float), expected, atol=1e-5)
