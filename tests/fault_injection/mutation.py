"""Would the tests notice if the code were wrong?

mutmut changes one operator, constant, argument or condition of a function at a time and runs the tests that reach the
function, in an environment without PyTorch. A mutant that no test fails on survives. The controls are the same code
unchanged, on which each of these tests has to pass, and raising in every function, on which they must not.

Of a target with more mutants than `--sample`, that many are drawn at random, with a fixed seed.
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
from mutmut.configuration import reset_config
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import change_cwd, walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name
from tests.fault_injection import report

ROOT = Path(__file__).parents[2]
SEED = 0
MUTMUT = str(Path(sys.executable).parent / "mutmut")
SURVIVORS = """# Mutants that survived

What was changed, `-` before and `+` after, and why no test fails on it. `equal` are those that no test could notice:
the program does the same."""
COPIED = ("README.md", "tests", "build/tiny-bundle")


@dataclass(frozen=True)
class Target:
    """Code and the tests that have to notice.

    Attributes:
        modules: Files under `runtime/manylabel`, with wildcards.
        tests: Files under `tests/runtime`, or pytest's options.
    """

    modules: Sequence[str]
    tests: Sequence[str]


TARGETS = {
    "batching": Target(["batching.py"], ["test_batching.py", "test_streaming.py"]),
    "decisions": Target(["decisions.py"], ["test_decisions.py", "test_classifier.py"]),
    "scheduler": Target(["server/scheduler.py"], ["server/test_scheduler.py", "server/test_worker_pool.py"]),
    "certifying": Target(["certificate.py", "certifying/*.py"], ["certifying"]),
    "bundle": Target(
        ["bundle.py", "manifest.py", "schema.py", "sealed.py", "folders.py", "variants.py"],
        [
            "test_bundle.py",
            "test_schema.py",
            "test_sealed.py",
            "test_folders.py",
            "test_variants.py",
            "test_cli_bundles.py",
        ],
    ),
    "scoring": Target(  # without test_object_stores.py, which is slow, and test_resource_limits.py: other processes
        ["scoring/*.py", "frames/*.py", "data/filesystem.py", "data/readers/*.py"],
        [
            *("data/test_blocks.py", "data/test_filesystem.py", "data/test_readers.py", "frames/test_arrow.py"),
            *(f"scoring/test_{each}.py" for each in ("scoring", "interruptions", "worker")),
        ],
    ),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option(
    "--sample", type=click.IntRange(min=1), default=200, show_default=True, help="Mutants of a target, at most."
)
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("build/mutation"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(names: Sequence[str], sample: int, scratch: Path, output: Path) -> None:
    """Mutate the code of NAMES, or of all targets, and count what the tests notice."""
    (output / "mutants").mkdir(parents=True, exist_ok=True)
    for name in names or TARGETS:
        path = output / "mutants" / f"{name}.json"
        looked_at = _words(json.loads(path.read_text(encoding="utf-8"))["survivors"]) if path.exists() else {}
        folder = _prepare(TARGETS[name], (scratch / name).resolve())
        every = _mutants(folder)
        found = _run(folder, sorted(random.Random(SEED).sample(every, min(sample, len(every)))))
        for survivor in found["survivors"]:
            survivor["word"] = looked_at.get((survivor["function"], survivor["change"]), "")
        path.write_text(json.dumps({"mutants": len(every), **found}, indent=1) + "\n", encoding="utf-8")
        click.echo(_draw(output))


def _prepare(target: Target, folder: Path) -> Path:
    """A project of its own, laid out as mutmut expects it: sources under `src`."""
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
        "timeout_multiplier": 10.0,  # a busy machine's
        "use_git_change_detection": False,
        "track_dependencies": False,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text("\n".join([ours, "[tool.mutmut]", *lines, ""]), encoding="utf-8")
    return folder


def _mutants(folder: Path) -> list[str]:
    """The names of all mutants, in order."""
    with change_cwd(folder):
        reset_config()  # it is that of the folder we are in
        mutated = {path: mutate_file_contents(str(path), path.read_text("utf-8")) for path in walk_mutatable_files()}
    return sorted(get_mutant_name(path, name) for path, found in mutated.items() for name in found.mutant_names)


def _run(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Try mutants, one at a time; those whose time ran out once more, as the machine may have stood still meanwhile."""
    (folder / "mutants/src").mkdir(parents=True)  # Python asks once whether a folder of its path is there
    verdicts = _try(folder, names)
    if late := [name for name, verdict in verdicts.items() if verdict == "timeout"]:
        verdicts |= _try(folder, late)
    survivors = [name for name, verdict in verdicts.items() if verdict not in {"killed", "timeout"}]
    return {
        "tried": len(verdicts),
        "killed": sum(verdict == "killed" for verdict in verdicts.values()),
        "timed out": sum(verdict == "timeout" for verdict in verdicts.values()),
        "survivors": [_survivor(name, verdicts[name], folder) for name in survivors],
    }


def _try(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """What became of each mutant, in mutmut's words."""
    # Processes that a test starts find the mutated code, too.
    environment = {**os.environ, "PYTHONPATH": str(folder / "mutants/src"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("ab") as log:
        command = [MUTMUT, "run", "--max-children", "1", *names]
        if subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False).returncode:
            raise click.ClickException(f"mutmut could not run: {folder / 'log'} says why.")
    codes: dict[str, int | None] = {}
    for path in folder.glob("mutants/src/**/*.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {name: status_by_exit_code[codes[name]] for name in names}


def _survivor(name: str, verdict: str, folder: Path) -> dict[str, str]:
    shown = subprocess.run([MUTMUT, "show", name], cwd=folder, check=True, capture_output=True, text=True).stdout
    changed = [line for line in shown.splitlines() if re.match(r"[-+](?![-+]{2} ?)", line)]
    function = re.sub(r"\.x[_ǁ]|ǁ", ".", name.partition("__mutmut_")[0]).removeprefix("manylabel.")
    return {"function": function, "verdict": verdict, "change": "\n".join(" ".join(each.split()) for each in changed)}


def _words(survivors: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """What somebody who looked at a survivor wrote beside it: `word`, kept from run to run."""
    return {(each["function"], each["change"]): each["word"] for each in survivors}


def _draw(output: Path) -> str:
    """Write the table and the page of survivors from all targets that were measured."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("mutants/*.json"))}
    (output / "mutants" / "README.md").write_text(
        "\n\n".join([SURVIVORS, *(_page(name, each["survivors"]) for name, each in found.items())]) + "\n",
        encoding="utf-8",
    )
    return report.write(
        output,
        "mutation",
        title="Mutants: would the tests notice",
        command="make mutation",
        rows=[_row(name, found[name]) for name in TARGETS if name in found],
        notes=[
            "Noticed are those that a test fails on and those that never end. Where fewer were tried than there are, "
            f"they were drawn at random (seed {SEED}). [Survivors](mutants/README.md). Controls: the "
            "code unchanged, on which all of these tests pass, and raising in every function, on which they fail."
        ],
    )


def _row(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    noticed = found["killed"] + found["timed out"]
    equal = sum(each["word"].startswith("equal") for each in found["survivors"])
    return {
        "code": ", ".join(f"`{each}`" for each in TARGETS[name].modules),
        "mutants": f"{found['mutants']:,}",
        "tried": f"{found['tried']:,}",
        "killed": f"{found['killed']:,}",
        "timed out": f"{found['timed out']:,}",
        "survived": f"{len(found['survivors']):,}",
        "... of these equal to the code": f"{equal:,}",
        "noticed": f"{noticed / found['tried']:.1%}",
    }


def _page(name: str, survivors: Sequence[Mapping[str, str]]) -> str:
    rows = [(f"`{each['function']}`", _cell(each["change"]), each["word"] or "not looked at") for each in survivors]
    table = [("function", "change", "why it lives"), ("---", "---", "---"), *rows]
    return "\n\n".join([f"## {name}", "\n".join("| " + " | ".join(row) + " |" for row in table)])


def _cell(change: str) -> str:
    return "<br>".join(f"`{line.replace('`', chr(39))}`" for line in change.replace("|", "\\|").splitlines())


if __name__ == "__main__":
    main()
