"""The supply chain: locks, licences, lower bounds and the release workflow."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "constraints" / "locked").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNLOCKED = {"torch", "manylabel"}


def versions(path: Path) -> dict[str, Version]:
    found = re.findall(r"^([\w.-]+)==([^\s\\]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def command(lock: Path) -> list[str]:
    """Return the command that made a lock, from its second line."""
    return lock.read_text().splitlines()[1].split()


def requirements(extras: list[str]) -> Iterator[Requirement]:
    """Yield the requirements of some extras, including extras that they refer to."""
    named = [each for extra in extras for each in PROJECT["optional-dependencies"][extra]]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *named]):
        yield requirement
        if requirement.name == PROJECT["name"]:
            yield from requirements(sorted(requirement.extras))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_has_constrained_versions_with_hashes(lock: Path) -> None:
    text = lock.read_text()
    constraints = versions(ROOT / command(lock)[command(lock).index("--constraint") + 1])
    locked = versions(lock)
    ours = locked if lock.stem != "image-cuda" else {name: its for name, its in locked.items() if name in constraints}
    assert {name: its for name, its in ours.items() if constraints.get(name) != its} == {}
    for entry in re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", entry, re.MULTILINE), entry


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_satisfies_the_requirements(lock: Path) -> None:
    words = command(lock)
    extras = [words[at + 1] for at, word in enumerate(words) if word == "--extra"]
    if not extras:  # tools, which Makefile names
        return
    locked = versions(lock)
    for requirement in requirements(extras):
        name = canonicalize_name(requirement.name)
        if name not in UNLOCKED:
            assert name in locked, f"{lock.name} lacks {requirement}: make lock"
            assert requirement.specifier.contains(locked[name]), f"{lock.name}: {requirement}, locked {locked[name]}"


def test_every_environment_uses_a_lock_and_every_lock_is_used() -> None:
    makefile, dockerfile = (ROOT / "Makefile").read_text(), (ROOT / "deploy" / "Dockerfile").read_text()
    used = set(re.findall(r"\$\(call locked,([\w-]+)\)", makefile))
    used |= set(re.findall(r"constraints/locked/([\w-]+)\.txt", dockerfile))
    made = re.findall(r"\$\(call lock,[\w-]+,([\w-]+)\)", makefile)
    assert used == set(made) == {lock.stem for lock in LOCKS}


def test_lock_has_the_extras_that_are_installed_after_it() -> None:
    recipes = re.findall(
        r"\$\(call locked,([\w-]+)\)\n\t.* install -c constraints/([\w-]+)\.txt .*\[([\w,-]+)\]",
        (ROOT / "Makefile").read_text(),
    )
    assert len(recipes) == 6
    for name, constraints, extras in recipes:
        words = command(ROOT / "constraints" / "locked" / f"{name}.txt")
        assert words[words.index("--constraint") + 1] == f"constraints/{constraints}.txt"
        assert [words[at + 1] for at, word in enumerate(words) if word == "--extra"] == extras.split(",")


def test_image_installs_only_hashed_files() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    for line in re.findall(r"^RUN .*pip install .*$", dockerfile, re.MULTILINE):
        assert "--no-deps --require-hashes -r constraints/locked/" in line or line.endswith("--no-deps /wheel/*.whl")


def test_lower_bounds_exclude_known_vulnerabilities() -> None:
    floors = {"onnxruntime": "1.30.1", "onnxruntime-gpu": "1.30.1", "onnx": "1.21", "torch": "2.6"}
    every = [Requirement(each) for extra in PROJECT["optional-dependencies"].values() for each in extra]
    for name, floor in floors.items():
        ranges = [each.specifier for each in every if each.name == name]
        assert ranges
        assert [each for each in ranges if f">={floor}" not in str(each)] == []


def test_licences_page_matches_package_metadata() -> None:
    try:
        page = licences().page()
    except PackageNotFoundError as exc:
        pytest.skip(f"needs every extra that the page lists: {exc}")
    assert (ROOT / "docs" / "licences.md").read_text() == page
    rows = [row.split(" | ") for row in page.splitlines() if row.startswith("| ")][2:]
    permissive = re.compile(r"MIT|BSD|Apache|0BSD|ISC|PSF|MPL|Mozilla Public|Unlicense|Zlib|CC0")
    assert [row for row in rows if not permissive.search(row[1])] == []


def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_workflows_pin_actions_by_commit_and_use_no_secrets() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    for workflow in workflows:
        text = workflow.read_text()
        actions = re.findall(r"uses: (.*)$", text, re.MULTILINE)
        assert actions
        assert [each for each in actions if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []
        assert "secrets." not in text
        assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)


def test_workflows_run_existing_targets() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    called = {word for line in re.findall(r"run: make (.*)$", text, re.MULTILINE) for word in line.split()}
    assert called
    assert called <= targets
