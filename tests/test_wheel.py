"""The wheel: its list of files, and whether every module imports outside the repository.

Run `python -m tests.test_wheel` to write `tests/wheel_files.txt` after adding, moving or deleting a file.
"""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE_LIST = ROOT / "tests" / "wheel_files.txt"
PACKAGES = ("manylabel", "manylabel_train", "manylabel_export", "manylabel_bench")
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
CPU_PACKAGES = ("numpy", "tokenizers", "click", "tqdm", "onnxruntime")
"""What `manylabel[cpu]` asks for; their dependencies come with them."""
NOT_IN_WORKBENCH = {"manylabel.engines.ray": "ray", "manylabel.engines.spark": "spark"}
"""Modules whose extra the development environment lacks, and the extra that their error must name."""

IMPORT_ALL = """
import importlib, json, sys, types, warnings
from pathlib import Path

wheel, site, stubs = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
sys.path += [str(wheel), site]
warnings.simplefilter("ignore")
for name in stubs:
    sys.modules[name] = types.ModuleType(name)
errors = {}
for path in sorted(wheel.glob("manylabel*/**/*.py")):
    name = ".".join(path.relative_to(wheel).with_suffix("").parts).removesuffix(".__init__")
    try:
        importlib.import_module(name)
    except Exception as exc:
        errors[name] = f"{type(exc).__name__}: {exc}"
print(json.dumps(errors))
"""


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout and return its path."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def list_files(wheel: Path) -> list[str]:
    """Return the files of the four packages in a wheel, sorted; its metadata is left out."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name for name in archive.namelist() if name.startswith(tuple(f"{name}/" for name in PACKAGES)))


def import_all(wheel: Path, site: Path, *stubs: str) -> dict[str, str]:
    """Import every module of an unpacked wheel in a fresh process; return the errors by module.

    Args:
        wheel: The folder of the unpacked wheel.
        site: The folder with its dependencies. No other packages are on the path, nor is the repository.
        stubs: Modules to replace by an empty one.
    """
    # -I and -S: neither the current folder nor site-packages with the editable install of the repository.
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(wheel), str(site), *stubs]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=wheel, env=environment)
    assert done.returncode == 0, done.stderr
    errors: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return errors


def top_level_entries(names: tuple[str, ...]) -> Iterator[str]:
    """Yield the entries of site-packages that belong to distributions and their dependencies."""
    from packaging.requirements import Requirement

    pending, seen = list(names), set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another platform or Python
            continue
        yield from {file.parts[0] for file in package.files or () if file.parts[0] != ".."}
        requirements = [Requirement(line) for line in package.requires or ()]
        pending += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def cpu_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the packages of `manylabel[cpu]` alone, as links."""
    folder = tmp_path_factory.mktemp("site")
    for entry in set(top_level_entries(CPU_PACKAGES)):
        (folder / entry).symlink_to(SITE_PACKAGES / entry)
    return folder


def test_wheel_contains_the_listed_files(wheel: Path) -> None:
    listed = FILE_LIST.read_text(encoding="utf-8").splitlines()
    assert list_files(wheel) == listed, "run `python -m tests.test_wheel` if this change of the wheel is intended"


def test_wheel_contains_python_and_known_data_files(wheel: Path) -> None:
    suffixes = {Path(name).suffix for name in list_files(wheel)}
    assert suffixes == {".py", ".typed", ".html", ".css", ".js", ".md"}


def test_every_module_imports_with_the_development_extras(unpacked: Path) -> None:
    errors = import_all(unpacked, SITE_PACKAGES, "triton_python_backend_utils")
    absent = {name: extra for name, extra in NOT_IN_WORKBENCH.items() if name in errors}
    assert {name for name in errors if name not in absent} == set(), errors
    for name, extra in absent.items():
        assert errors[name].startswith("MissingDependency: ")
        assert f"manylabel[{extra}" in errors[name]


def test_every_module_imports_with_cpu_alone_or_names_its_extra(unpacked: Path, cpu_site: Path) -> None:
    errors = import_all(unpacked, cpu_site)
    assert {name: error for name, error in errors.items() if not error.startswith("MissingDependency: ")} == {}
    assert not any(name == "manylabel.classifier" or name.startswith("manylabel.inference") for name in errors)


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        FILE_LIST.write_text("\n".join(list_files(build_wheel(Path(scratch)))) + "\n", encoding="utf-8")
