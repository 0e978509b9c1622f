"""Write docs/licences.md: the packages that the runtime's extras install, with the licence of each.

Usage: python .ci/licences.py > docs/licences.md
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("cpu", "files", "server", "sign", "hub")
NOT_IN_METADATA = {"sigstore-models": "MIT"}  # from its LICENSE file
HEAD = f"""# Licences

What `manylabel[{",".join(EXTRAS)}]` installs, with the licence that each package's metadata states. `make licences`
writes this page, and a test compares it with the environment. All of these licences allow use in closed-source
products; MPL-2.0 requires that changes to the package's own files be published.

Not in the table, because no test environment has all of them: the extra `gpu` installs onnxruntime-gpu (MIT), and the
CUDA image contains CUDA's wheels, which are under NVIDIA's own licences and not free software; `server-otel` installs
OpenTelemetry and googleapis-common-protos (Apache-2.0); `ray` and `spark` install Ray, PySpark (Apache-2.0), pandas
(BSD-3-Clause) and py4j (BSD-3-Clause).

| package | licence |
| --- | --- |"""


def page() -> str:
    """Return the page in Markdown."""
    packages = _dependencies("manylabel", EXTRAS)
    return "\n".join([HEAD, *(f"| {name} | {licence(packages[name])} |" for name in sorted(packages))]) + "\n"


def licence(package: Distribution) -> str:
    """Return the licence in a package's metadata: the expression, else the classifiers, else the free-text field."""
    metadata = package.metadata
    classifiers = [each.split(" :: ")[-1] for each in metadata.get_all("Classifier", []) if "License ::" in each]
    text = (metadata.get("License") or "").strip().splitlines()
    return str(
        metadata.get("License-Expression")
        or ", ".join(each for each in classifiers if each != "OSI Approved")
        or (text[0] if text else NOT_IN_METADATA.get(canonicalize_name(metadata["Name"]), "not stated"))
    )


def _dependencies(name: str, extras: Iterable[str]) -> dict[str, Distribution]:
    """Return the direct and indirect dependencies of a package in this environment, without the package itself."""
    packages: dict[str, Distribution] = {}
    queue, seen = [(name, frozenset(extras))], set()
    while queue:
        entry = queue.pop()
        if entry not in seen:
            seen.add(entry)
            package = distribution(entry[0])
            packages[canonicalize_name(package.metadata["Name"])] = package
            queue += _requirements(package, entry[1])
    del packages[name]
    return packages


def _requirements(package: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the packages that a package with these extras requires here, each with the extras it is required with."""
    for requirement in map(Requirement, package.requires or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


if __name__ == "__main__":
    print(page(), end="")
