"""Mutation testing: would the tests fail if the code were wrong?

mutmut changes one operator, constant, argument or condition of a function at a time and runs the tests that reach the
function, in an environment without PyTorch. A mutant on which no test fails survives. The controls are the unchanged
code, on which all of these tests must pass, and code that raises in every function, on which they must fail.

For a target with more mutants than `--sample`, that many are drawn at random with a fixed seed.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tests.fault_injection import report

ROOT = Path(__file__).parents[2]
SEED = 0
MUTMUT = str(Path(sys.executable).parent / "mutmut")
SURVIVORS = """# Mutants that survived

The change, `-` before and `+` after, and why no test fails on it. `equal` marks equivalent mutants, which no test can
detect. Functions have their current modules, and their names and code at the commit at which they were measured."""
COPIED = ("README.md", "tests", "build/tiny-bundle")


@dataclass(frozen=True)
class MutationTarget:
    """Code, and the tests that must detect its mutants.

    Attributes:
        modules: Files under `runtime/manylabel`, with wildcards.
        tests: Files or folders under `tests/runtime`.
    """

    modules: Sequence[str]
    tests: Sequence[str]


TARGETS = {
    "length_batching": MutationTarget(
        ["inference/length_batching.py"], ["inference/test_length_batching.py", "inference/test_pipeline.py"]
    ),
    "thresholding": MutationTarget(
        ["inference/thresholding.py"], ["inference/test_thresholding.py", "test_classifier.py"]
    ),
    "scheduler": MutationTarget(["server/scheduler.py"], ["server/test_scheduler.py", "server/test_worker_pool.py"]),
    "certify": MutationTarget(["bundle/certificate.py", "certify/*.py"], ["certify"]),
    "bundle": MutationTarget(
        [
            *(f"bundle/{name}.py" for name in ("bundle", "manifest", "strict_json", "variants")),
            *(f"system/{name}.py" for name in ("sealed_file", "atomic_write")),
        ],
        [
            *(f"bundle/test_{name}.py" for name in ("bundle", "strict_json", "variants")),
            *(f"system/test_{name}.py" for name in ("sealed_file", "atomic_write")),
            "cli/test_inspect_verify.py",
        ],
    ),
    # Without test_object_stores.py, which is slow, and test_resource_limits.py, which runs in other processes only.
    "scoring": MutationTarget(
        ["scoring/*.py", "data/readers/*.py", "data/filesystem.py", "frames/*.py"],
        [
            *(f"scoring/test_{name}.py" for name in ("scoring", "merge", "interruptions", "worker")),
            *(f"data/test_{name}.py" for name in ("readers", "filesystem")),
            "frames/test_arrow.py",
        ],
    ),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Maximum number of mutants of a target.",
)
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("build/mutation"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(names: Sequence[str], sample: int, scratch: Path, output: Path) -> None:
    """Mutate the code of NAMES, or of all targets, and count the mutants that the tests detect."""
    (output / "mutants").mkdir(parents=True, exist_ok=True)
    for name in names or TARGETS:
        path = output / "mutants" / f"{name}.json"
        reasons = _known_reasons(json.loads(path.read_text(encoding="utf-8"))["survivors"]) if path.exists() else {}
        folder = _prepare_project(TARGETS[name], (scratch / name).resolve())
        mutants = _list_mutants(folder)
        tested = _test_mutants(folder, sorted(random.Random(SEED).sample(mutants, min(sample, len(mutants)))))
        for survivor in tested["survivors"]:
            survivor["reason"] = reasons.get((survivor["function"], survivor["change"]), "")
        path.write_text(json.dumps({"mutants": len(mutants), **tested}, indent=1) + "\n", encoding="utf-8")
        click.echo(write_pages(output))


def _prepare_project(target: MutationTarget, folder: Path) -> Path:
    """Write a project of its own in the layout that mutmut expects, with sources under `src`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "runtime/manylabel", folder / "src/manylabel", ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, folder / name)
    settings = {
        "source_paths": ["src/manylabel"],
        "only_mutate": [f"src/manylabel/{each}" for each in target.modules],
        "also_copy": list(COPIED),
        "pytest_add_cli_args_test_selection": [f"tests/runtime/{each}" for each in target.tests],
        "pytest_add_cli_args": ["-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-profile", "mutation"],
        "process_isolation": "forkserver",
        "timeout_multiplier": 10.0,  # for a busy machine
        "use_git_change_detection": False,
        "track_dependencies": False,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text("\n".join([pyproject, "[tool.mutmut]", *lines, ""]), encoding="utf-8")
    return folder


def _list_mutants(folder: Path) -> list[str]:
    """Return the names of all mutants, in order."""
    from mutmut.configuration import reset_config
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.file_utils import change_cwd, walk_mutatable_files
    from mutmut.utils.format_utils import get_mutant_name

    with change_cwd(folder):
        reset_config()  # read the configuration of this folder
        mutated = {path: mutate_file_contents(str(path), path.read_text("utf-8")) for path in walk_mutatable_files()}
    return sorted(get_mutant_name(path, name) for path, each in mutated.items() for name in each.mutant_names)


def _test_mutants(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Test the mutants one at a time; those that timed out are tested again, as the machine may have been busy."""
    (folder / "mutants/src").mkdir(parents=True)  # Python checks only once whether a folder of its path exists
    verdicts = _run_mutmut(folder, names)
    if late := [name for name, verdict in verdicts.items() if verdict == "timeout"]:
        verdicts |= _run_mutmut(folder, late)
    survivors = [name for name, verdict in verdicts.items() if verdict not in {"killed", "timeout"}]
    return {
        "tried": len(verdicts),
        "killed": sum(verdict == "killed" for verdict in verdicts.values()),
        "timed out": sum(verdict == "timeout" for verdict in verdicts.values()),
        "survivors": [_describe_survivor(name, verdicts[name], folder) for name in survivors],
    }


def _run_mutmut(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the verdict of mutmut on each mutant."""
    from mutmut.stats import status_by_exit_code

    # Processes that a test starts must import the mutated code as well.
    environment = {**os.environ, "PYTHONPATH": str(folder / "mutants/src"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("ab") as log:
        command = [MUTMUT, "run", "--max-children", "1", *names]
        if subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False).returncode:
            raise click.ClickException(f"mutmut failed; see {folder / 'log'}.")
    codes: dict[str, int | None] = {}
    for path in folder.glob("mutants/src/**/*.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {name: status_by_exit_code[codes[name]] for name in names}


def _describe_survivor(name: str, verdict: str, folder: Path) -> dict[str, str]:
    shown = subprocess.run([MUTMUT, "show", name], cwd=folder, check=True, capture_output=True, text=True).stdout
    changed = [line for line in shown.splitlines() if re.match(r"[-+](?![-+]{2} ?)", line)]
    function = re.sub(r"\.x[_ǁ]|ǁ", ".", name.partition("__mutmut_")[0]).removeprefix("manylabel.")
    return {"function": function, "verdict": verdict, "change": "\n".join(" ".join(each.split()) for each in changed)}


def _known_reasons(survivors: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """Return the reasons that a reviewer wrote beside survivors, which are kept from run to run."""
    return {(each["function"], each["change"]): each["reason"] for each in survivors}


def write_pages(output: Path) -> str:
    """Write the table and the page of survivors for all targets that were measured; return the table."""
    tested = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("mutants/*.json"))}
    (output / "mutants" / "README.md").write_text(
        "\n\n".join([SURVIVORS, *(_survivor_table(name, each["survivors"]) for name, each in tested.items())]) + "\n",
        encoding="utf-8",
    )
    return report.write_section(
        output,
        "mutation",
        title="Mutation testing: would the tests fail if the code were wrong?",
        command="make mutation",
        rows=[_row(name, tested[name]) for name in TARGETS if name in tested],
        notes=[
            "A mutant is detected if a test fails or never ends. If fewer were tested than there are, they were "
            f"drawn at random (seed {SEED}). [Survivors](mutants/README.md). Controls: the unchanged code, on which "
            "all of these tests pass, and code that raises in every function, on which they fail."
        ],
    )


def _row(name: str, tested: Mapping[str, Any]) -> dict[str, str]:
    detected = tested["killed"] + tested["timed out"]
    equivalent = sum(each["reason"].startswith("equal") for each in tested["survivors"])
    return {
        "code": ", ".join(f"`{each}`" for each in TARGETS[name].modules),
        "mutants": f"{tested['mutants']:,}",
        "tested": f"{tested['tried']:,}",
        "killed": f"{tested['killed']:,}",
        "timed out": f"{tested['timed out']:,}",
        "survived": f"{len(tested['survivors']):,}",
        "... of these equivalent": f"{equivalent:,}",
        "detected": f"{detected / tested['tried']:.1%}",
    }


def _survivor_table(name: str, survivors: Sequence[Mapping[str, str]]) -> str:
    rows = [(f"`{each['function']}`", _cell(each["change"]), each["reason"] or "not reviewed") for each in survivors]
    table = [("function", "change", "why it survives"), ("---", "---", "---"), *rows]
    return "\n\n".join([f"## {name}", "\n".join("| " + " | ".join(row) + " |" for row in table)])


def _cell(change: str) -> str:
    return "<br>".join(f"`{line.replace('`', chr(39))}`" for line in change.replace("|", "\\|").splitlines())


if __name__ == "__main__":
    main()
