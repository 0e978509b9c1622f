"""Which packages are here, by what manylabel's own metadata asks for."""

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from manylabel import __version__
from manylabel.doctor.finding import Finding

NAME = "manylabel"
OURS = ("cpu", "gpu", "bench", "clients", "demo", "dev", "rivals")
"""Extras not spoken of: onnxruntime has findings of its own, the others are for those who work on manylabel."""

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=([\d.]+))?[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")


@dataclass(frozen=True)
class Requirement:
    """A package that is asked for.

    Attributes:
        name: The package's.
        least: The lowest version that is good, or empty.
        extra: The extra that asks for it, or empty where it is always needed.
    """

    name: str
    least: str
    extra: str

    @property
    def outdated(self) -> str:
        """Says that what is installed is too old; empty where it is not, or not installed."""
        found = installed(self.name)
        return f"{self.name} {found} is older than {self.least}" if found and _is_older(found, self.least) else ""


def look() -> list[Finding]:
    """Python, manylabel with what it always needs, and its extras."""
    known = requirements()
    extras = dict.fromkeys(each.extra for each in known if each.extra and each.extra not in OURS)
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _base([each for each in known if not each.extra]),
        _extras({extra: [each for each in known if each.extra == extra] for extra in extras}),
    ]


def installed(name: str) -> str:
    """A package's version; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def requirements() -> list[Requirement]:
    """What manylabel and its extras ask for, as its metadata says; nothing where it was not installed."""
    try:
        lines = requires(NAME) or []
    except PackageNotFoundError:
        lines = []
    found = (_REQUIREMENT.fullmatch(line.strip()) for line in lines)
    return [Requirement(each[1], each[2] or "", each[3] or "") for each in found if each]


def _base(needed: list[Requirement]) -> Finding:
    if not needed:
        return Finding(NAME, "note", f"{__version__}, run from its files and not installed: versions are not checked")
    versions = {each.name: installed(each.name) for each in needed}
    said = ", ".join(f"{name} {found or 'missing'}" for name, found in versions.items())
    details = {"version": __version__, "packages": versions}
    if faults := [*_outdated(needed), *(f"{name} is missing" for name, found in versions.items() if not found)]:
        return Finding(NAME, "fault", f"{__version__}; {', '.join(faults)}.", f"pip install --upgrade {NAME}", details)
    return Finding(NAME, "ok", f"{__version__} with {said}", details=details)


def _extras(extras: dict[str, list[Requirement]]) -> Finding:
    """Which extras are whole. Nothing of them is needed to answer, so a missing one is no fault."""
    whole = [extra for extra, needed in extras.items() if all(installed(each.name) for each in needed)]
    others = [extra for extra in extras if extra not in whole]
    says = f"here: {', '.join(whole) or 'none'}; not here: {', '.join(others) or 'none'}"
    details = {"here": whole, "not_here": others}
    if faults := [fault for extra in whole for fault in _outdated(extras[extra])]:
        upgrade = f'pip install --upgrade "{NAME}[{",".join(whole)}]"'
        return Finding("extras", "note", f"{says}; {', '.join(dict.fromkeys(faults))}", upgrade, details)
    return Finding("extras", "ok", says, details=details)


def _outdated(needed: list[Requirement]) -> Iterator[str]:
    return (each.outdated for each in needed if each.outdated)


def _is_older(found: str, least: str) -> bool:
    return _numbers(found) < _numbers(least)


def _numbers(text: str) -> tuple[int, ...]:
    """A version's release as numbers, such as (1, 30, 1)."""
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
