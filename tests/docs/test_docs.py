"""What pages name exists: tests in the assurance case, paths in the architecture. `make docs` checks links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASSURANCE, ARCHITECTURE = (
    (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("assurance", "architecture")
)
NAMED_TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ASSURANCE)
NAMED_PATHS = sorted(set(re.findall(r"`([\w./]*(?:/|\.(?:py|md|toml)))`", ARCHITECTURE)))
SECTION_FOLDERS = (".", "runtime/manylabel", "export/manylabel_train", "export/manylabel_export")
"""The folders that the sections of the architecture page name paths below."""


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_assurance_case_tests_exist(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_assurance_case_names_many_tests() -> None:
    assert len(NAMED_TESTS) > 30


@pytest.mark.parametrize("path", NAMED_PATHS)
def test_architecture_paths_exist(path: str) -> None:
    assert any((ROOT / folder / path).exists() for folder in SECTION_FOLDERS)


def test_architecture_names_many_paths() -> None:
    assert len(NAMED_PATHS) > 60
