"""The committed fuzz corpus is parsed, or rejected with an error of the package."""

import sys
from pathlib import Path

import pytest

from manylabel.bundle.manifest import read_manifest

HERE = Path(__file__).parent
CORPUS = sorted((HERE / "corpus").glob("*/*"))

for needed in ("msgspec", "starlette", "pyarrow"):
    pytest.importorskip(needed)


@pytest.fixture(scope="module", autouse=True)
def _targets(bundle: Path) -> None:
    """Let the targets read the toy bundle's tokenizer."""
    sys.path.insert(0, str(HERE))
    import targets

    targets.BUNDLE = bundle


def test_manifest_corpus_contains_a_valid_manifest() -> None:
    """A manifest of an older format would be rejected at its first field, and so would everything derived from it."""
    manifest, _ = read_manifest((HERE / "corpus" / "manifest" / "whole").read_bytes(), where="the corpus")
    assert manifest.labels


def test_fuzz_control_fails() -> None:
    import targets

    with pytest.raises(TypeError):
        targets.careless((HERE / "corpus" / "texts" / "surrogate").read_bytes())


@pytest.mark.parametrize("target", ["manifest", "texts", "requests", "csv", "jsonl"])
def test_fuzz_corpus_is_parsed_or_rejected(target: str) -> None:
    import targets

    inputs = [path for path in CORPUS if path.parent.name == target]
    assert inputs, f"there is no corpus of {target}"
    for path in inputs:
        targets.TARGETS[target](path.read_bytes())
