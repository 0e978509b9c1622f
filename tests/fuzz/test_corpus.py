"""What fuzzing found worth keeping is read, or refused with a sentence."""

import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("target", ["manifest", "texts", "requests", "csv", "jsonl"])
def test_the_corpus_of_a_target_is_read_or_refused(target: str) -> None:
    import targets

    inputs = [path for path in CORPUS if path.parent.name == target]
    assert inputs, f"there is no corpus of {target}"
    for path in inputs:
        targets.TARGETS[target](path.read_bytes())
