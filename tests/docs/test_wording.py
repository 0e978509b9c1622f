"""The wording check finds each kind of phrase, and no others, and nothing in the repository."""

import importlib.util
from types import ModuleType

import pytest
from tests.helpers.blocks import ROOT


@pytest.fixture(scope="module")
def wording() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wording", ROOT / ".ci" / "wording.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "line", "phrase"),
    [
        ("The result hangs on the seed.", 1, "hangs on"),
        ("The rows are set\naside for it.", 1, "set aside"),
        ("# scored alone and in\n    # company", 1, "in company"),
        ("One.\n\nIt is no bundle.", 3, "is no bundle"),
        ("class Judge:", 1, "Judge"),
        ("texts_judged_by_f1 = 3", 1, "judged"),
        ("Whoever asks.", 1, "Whoever"),
    ],
)
def test_wording_check_finds_phrases(wording: ModuleType, text: str, line: int, phrase: str) -> None:
    (hit,) = wording.find_hits("page.md", text)
    assert (hit.line, hit.phrase) == (line, phrase)
    assert str(hit).startswith(f"page.md:{line}: {phrase} -> ")


@pytest.mark.parametrize(
    "text",
    [
        "If there is no bundle, it is created.",
        "# The text: there\n    # is no label.",
        "It is no longer a bundle.",
        "The process hangs.",
        "An adjudged value, in companies, and a newer one.",
        "Set the option. Aside from this, nothing changes.",
    ],
)
def test_wording_check_allows_other_uses(wording: ModuleType, text: str) -> None:
    assert list(wording.find_hits("page.md", text)) == []


def test_repository_has_no_phrases_to_reword(wording: ModuleType) -> None:
    hits = [hit for path in wording.list_files() for hit in wording.find_hits(path, (ROOT / path).read_text("utf-8"))]
    assert [str(hit) for hit in hits] == []


def test_wording_check_reads_the_repository(wording: ModuleType) -> None:
    files = wording.list_files()
    assert {"README.md", "Makefile", "docs/index.md", "runtime/manylabel/classifier.py"} <= set(files)
    assert ".ci/wording.py" not in files
