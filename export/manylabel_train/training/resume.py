"""Resuming an interrupted run: the folder of an unfinished run next to the output, and the plan that it must match."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.errors import InputError, OutputExists
from manylabel.system.atomic_write import atomic_write_text
from manylabel_train.models import checkpoint
from manylabel_train.training.checkpoints import (
    CHECKPOINTS,
    PLAN_FILE,
    describe_progress,
    is_complete,
    list_checkpoints,
    partial_run_folder,
)


def open_partial_run(output: Path, plan: Mapping[str, Any], *, force: bool, resume: bool) -> Path:
    """Create or reopen the folder for the Trainer's checkpoints, which contains its plan from the start.

    Args:
        output: The folder of the finished run; the unfinished one is next to it, as `.NAME.partial`.
        plan: Everything that determines the result, as JSON content.
        force: Delete an unfinished run.
        resume: Continue an unfinished run.

    Raises:
        OutputExists: There is an unfinished run, and neither `force` nor `resume` is set.
        InputError: There is nothing to resume, or it was started with another plan.
    """
    folder = partial_run_folder(output)
    started = (folder / PLAN_FILE).exists()
    if resume and not started:
        raise InputError(f"there is no interrupted run of {output} to resume. Start without --resume.")
    if resume:
        _require_same_plan(folder, plan)
        for path in list_checkpoints(folder / CHECKPOINTS):
            if not is_complete(path):  # useless, and takes space where the disk was full
                shutil.rmtree(path)
        return folder
    check_no_partial_run(output, force=force)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    atomic_write_text(folder / PLAN_FILE, json.dumps(plan, indent=2), advice=describe_progress(output))
    return folder


def check_no_partial_run(output: Path, *, force: bool) -> None:
    """Refuse to start over while there is an unfinished run.

    Raises:
        OutputExists: There is one, and `force` is not set.
    """
    if (partial_run_folder(output) / PLAN_FILE).exists() and not force:
        raise OutputExists(f"there is an interrupted run of {output}. {describe_progress(output)}")


def _require_same_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    before = checkpoint.read_json(folder / PLAN_FILE)
    if not isinstance(before, dict):
        raise InputError(f"{folder / PLAN_FILE} is damaged. Start over with --force.")
    changed = _find_differences(before, plan)
    if changed:
        raise InputError(
            f"the interrupted run in {folder} differs in {', '.join(changed)}. "
            "Restore the former values, or start over with --force."
        )


def _find_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs, one level deep: `recipe.epochs`."""
    names = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{key}.{name}" for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        elif old != new:
            names.append(key)
    return names
