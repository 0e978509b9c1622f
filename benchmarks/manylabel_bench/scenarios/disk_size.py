"""How many bytes on disk does it take to answer so: the installed packages, with all they ask for, and the model?

Counted from the packages' own lists of files in this environment; the interpreter and pip are left out, and an NVIDIA
build of PyTorch counts as what is installed here.
"""

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import manylabel
from manylabel_bench.contenders import Kind, Setting
from manylabel_bench.scenarios import Field, Samples


def measure(field: Field) -> dict[str, Samples]:
    """Megabytes of environment and model, and the number of packages."""
    return {"size": {kind.name: [_size(kind, field.setting)] for kind in field.kinds}}


def _size(kind: Kind, setting: Setting) -> dict[str, Any]:
    found: dict[str, Distribution] = {}
    for name in kind.installs:
        _collect(name, found)
    files = kind.module().artefacts(kind.variant, setting)
    return {
        "environment_mb": sum(_bytes(each) for each in found.values()) / 1e6,
        "packages": len(found),
        "model_mb": sum(path.stat().st_size for path in files if path.exists()) / 1e6,
    }


def _collect(name: str, found: dict[str, Distribution]) -> None:
    """A distribution and, without their extras, those that it asks for; one that is absent is not needed here."""
    key = canonicalize_name(name)
    if key in found:
        return
    try:
        found[key] = distribution(name)
    except PackageNotFoundError:
        return
    for line in found[key].requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            _collect(requirement.name, found)


def _bytes(package: Distribution) -> int:
    if canonicalize_name(package.metadata["Name"]) == "manylabel":  # may be installed from a checkout, as one file
        return sum(path.stat().st_size for path in _tree(Path(manylabel.__file__).parent))
    paths = (Path(str(package.locate_file(file))) for file in package.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _tree(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
