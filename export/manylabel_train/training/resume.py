"""The run in the making: a folder beside the output, from where an interrupted training goes on."""

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from manylabel.errors import InputError, OutputExists
from manylabel.system.atomic_write import atomic_write_text
from manylabel_train.models import checkpoint
from manylabel_train.training.checkpoints import CHECKPOINTS, PLAN_FILE, checkpoints, is_whole, remains_of, what_is_kept
from manylabel_train.training.config import Recipe
from manylabel_train.training.resource_errors import explained


def open_attempt(output: Path, plan: Mapping[str, Any], *, force: bool, resume: bool) -> Path:
    """The folder for the Trainer's checkpoints, new or found again. It holds its plan from the first moment on.

    Args:
        output: Where the finished run will lie; the attempt lies beside it, as `.NAME.partial`.
        plan: All that decides what comes out, as JSON holds it.
        force: Throw away the remains of an interrupted run.
        resume: Go on with them.

    Raises:
        OutputExists: There are remains, and neither was asked for.
        InputError: There is nothing to resume, or it was begun under another plan.
    """
    folder = remains_of(output)
    begun = (folder / PLAN_FILE).exists()
    if resume and not begun:
        raise InputError(f"there is no interrupted run of {output} to resume. Start without --resume.")
    if resume:
        _require_same_plan(folder, plan)
        for path in checkpoints(folder / CHECKPOINTS):
            if not is_whole(path):  # of no use to anybody, and in the way where the disk was full
                shutil.rmtree(path)
        return folder
    check_unbegun(output, force=force)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    atomic_write_text(folder / PLAN_FILE, json.dumps(plan, indent=2))
    return folder


def running_out(output: Path, recipe: Recipe) -> AbstractContextManager[None]:
    """Within it a machine that runs out of room or memory is a sentence with what is kept of the run.

    Args:
        output: Where the finished run is to lie.
        recipe: A completed recipe.
    """
    short = (
        f"over batches of {recipe.batch_size} texts of up to {recipe.max_length} tokens. Lower --batch-size or "
        "--max-length and start over with --force, or make memory free."
    )
    return explained(output, "the run", short=short, kept=partial(what_is_kept, output))


def check_unbegun(output: Path, *, force: bool) -> None:
    """Refuse to begin anew where there are remains.

    Raises:
        OutputExists: There are, and they are not to be thrown away.
    """
    if (remains_of(output) / PLAN_FILE).exists() and not force:
        raise OutputExists(f"an interrupted run of {output} is there. {what_is_kept(output)}")


def _require_same_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    before = checkpoint.read_json(folder / PLAN_FILE)
    if not isinstance(before, dict):
        raise InputError(f"{folder / PLAN_FILE} is damaged. Start over with --force.")
    changed = _differences(before, plan)
    if changed:
        raise InputError(
            f"the interrupted run in {folder} had another {', '.join(changed)}. "
            "Restore what it had, or start over with --force."
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of what differs, one level deep: `recipe.epochs`."""
    names = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{key}.{name}" for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        elif old != new:
            names.append(key)
    return names
