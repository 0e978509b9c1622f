"""Draw docs/licences.md: what answers, with every extra that this environment has, and each package's licence.

python .ci/licences.py > docs/licences.md
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("cpu", "files", "server", "sign", "hub")
UNTOLD = {"sigstore-models": "MIT"}  # by its LICENSE file; its metadata names none
HEAD = f"""# Licences

What `manylabel[{",".join(EXTRAS)}]` installs, by the packages' own metadata. `make licences` draws the table anew,
and a test compares it with the environment. All allow use in closed products; those under MPL-2.0 ask that changes to
their own files be published.

Not in the table, since no test's environment has all of them: the extra `gpu` brings onnxruntime-gpu (MIT), and CUDA's
wheels, which the CUDA image holds, are under NVIDIA's own licences, not free software; `server-otel` brings
OpenTelemetry and googleapis-common-protos (Apache-2.0); `ray` and `spark` bring Ray, PySpark (Apache-2.0), pandas
(BSD-3-Clause) and py4j (BSD-3-Clause).

| package | licence |
| --- | --- |"""


def page() -> str:
    """The page in Markdown."""
    found = _closure("manylabel", EXTRAS)
    return "\n".join([HEAD, *(f"| {name} | {licence(found[name])} |" for name in sorted(found))]) + "\n"


def licence(package: Distribution) -> str:
    """What a package's metadata says: an expression, else classifiers, else a word."""
    said = package.metadata
    classifiers = [each.split(" :: ")[-1] for each in said.get_all("Classifier", []) if each.startswith("License :: ")]
    word = (said.get("License") or "").strip().splitlines()
    return str(
        said.get("License-Expression")
        or ", ".join(each for each in classifiers if each != "OSI Approved")
        or (word[0] if word else UNTOLD.get(canonicalize_name(said["Name"]), "not told"))
    )


def _closure(name: str, extras: Iterable[str]) -> dict[str, Distribution]:
    """Every package that a package asks for here, with those that these ask for, itself not among them."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(name, frozenset(extras))], set()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            package = distribution(one[0])
            found[canonicalize_name(package.metadata["Name"])] = package
            waiting += _asked(package, one[1])
    del found[name]
    return found


def _asked(package: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for requirement in map(Requirement, package.requires or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


if __name__ == "__main__":
    print(page(), end="")
