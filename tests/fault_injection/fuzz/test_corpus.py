"""What fuzzing found worth keeping is read, or refused with a sentence."""

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
    """The targets read the tiny bundle's tokenizer."""
    sys.path.insert(0, str(HERE))
    import targets

    targets.BUNDLE = bundle


def test_manifest_corpus_contains_a_valid_manifest() -> None:
    """One of an older form would be refused at its first field, and so would all that comes of it."""
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
