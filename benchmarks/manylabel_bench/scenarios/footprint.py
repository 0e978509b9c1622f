"""Footprint: how much memory do all texts take, and how many bytes on disk does a deployment take?

Memory is that of a fresh process after passes in different orders, which shows whether it grows. Disk is counted from
the installed packages' own lists of files in this environment, with all their dependencies; the interpreter and pip are
left out, and PyTorch counts as the build that is installed here.
"""

import random
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tqdm import tqdm

import manylabel
from manylabel_bench.contenders.registry import ContenderConfig, ContenderSpec
from manylabel_bench.runner.process import BenchContext, ContenderFailed, Samples, start_contender
from manylabel_bench.runner.workload import write_texts

PASSES = 3


def measure_memory(context: BenchContext) -> dict[str, Samples]:
    """Measure the MB of a fresh process once loaded, and its peak after each pass over the shuffled texts."""
    samples: dict[str, list[Any]] = {}
    texts = context.workload.data.texts
    orders = [
        write_texts(context.scratch / f"shuffled{number}.json", random.Random(number).sample(texts, len(texts)))
        for number in range(PASSES)
    ]
    for spec in tqdm(context.contenders, desc="memory", unit="contender"):
        try:
            with start_contender(spec, context.config, context.texts) as process:
                loaded = process.request("memory")["rss_mb"]
                passes = [process.request("bulk", path)["peak_rss_mb"] for path in orders]
        except ContenderFailed as exc:
            context.skipped[spec.name] = str(exc)
            continue
        samples[spec.name] = [{"loaded_mb": loaded, "passes_mb": passes}]
    return {"memory": samples}


def measure_disk_size(context: BenchContext) -> dict[str, Samples]:
    """Measure the megabytes of environment and model, and count the packages."""
    return {"size": {spec.name: [_disk_size(spec, context.config)] for spec in context.contenders}}


def _disk_size(spec: ContenderSpec, config: ContenderConfig) -> dict[str, Any]:
    packages: dict[str, Distribution] = {}
    for name in spec.distributions:
        _collect_dependencies(name, packages)
    files = spec.import_family().model_files(spec.variant, config)
    return {
        "environment_mb": sum(_package_bytes(package) for package in packages.values()) / 1e6,
        "packages": len(packages),
        "model_mb": sum(path.stat().st_size for path in files if path.exists()) / 1e6,
    }


def _collect_dependencies(name: str, packages: dict[str, Distribution]) -> None:
    """Add a distribution and its dependencies, without extras; one that is not installed is not needed here."""
    key = canonicalize_name(name)
    if key in packages:
        return
    try:
        packages[key] = distribution(name)
    except PackageNotFoundError:
        return
    for line in packages[key].requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            _collect_dependencies(requirement.name, packages)


def _package_bytes(package: Distribution) -> int:
    if canonicalize_name(package.metadata["Name"]) == "manylabel":  # an editable install lists a single file
        return sum(path.stat().st_size for path in _files_below(Path(manylabel.__file__).parent))
    paths = (Path(str(package.locate_file(file))) for file in package.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
