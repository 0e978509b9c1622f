"""Checkpoints of an unfinished run, which are complete, and resuming from them under the same plan.

Imports no PyTorch, because a signal may arrive before PyTorch is loaded.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manylabel.errors import InputError, OutputExists
from manylabel.system.atomic_write import atomic_write_text

STATE_FILE = "trainer_state.json"
PLAN_FILE = "plan.json"
CHECKPOINTS = "checkpoints"
HEADER_LENGTH_BYTES = 8
"""A safetensors file starts with the length of its header, which contains where the last tensor ends."""


def partial_run_folder(output: Path) -> Path:
    """Return the folder of an unfinished run of `output`.

    Example:
        >>> from pathlib import Path
        >>> partial_run_folder(Path("runs/reviews")).name
        '.reviews.partial'
    """
    return output.with_name(f".{output.name}.partial")


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, so that an older one is used if the newest is damaged."""
    return max(filter(is_complete, list_checkpoints(folder)), key=read_step, default=None)


def list_checkpoints(folder: Path) -> Sequence[Path]:
    """Return all checkpoints in a folder, incomplete ones included."""
    return [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()]


def read_step(checkpoint: Path) -> int:
    """Return the optimiser step at which a checkpoint was written.

    Example:
        >>> from pathlib import Path
        >>> read_step(Path("checkpoint-120"))
        120
    """
    return int(checkpoint.name.rpartition("-")[2])


def is_complete(checkpoint: Path) -> bool:
    """Return whether no file of a checkpoint is missing or cut off. The Trainer writes its state last."""
    tensors = [*checkpoint.glob("*.safetensors")]
    pickled = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]
    return (
        bool(tensors)
        and (checkpoint / "optimizer.pt") in pickled
        and read_state(checkpoint) is not None
        and all(map(_has_all_tensors, tensors))
        and all(map(zipfile.is_zipfile, pickled))  # a zip's directory is at its end
    )


def read_state(checkpoint: Path) -> dict[str, Any] | None:
    """Read the Trainer's state, which includes its log; None if it is missing or incomplete."""
    try:
        state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and "log_history" in state else None


def describe_progress(output: Path) -> str:
    """Describe what is kept of an interrupted run, and how to resume it."""
    folder = partial_run_folder(output)
    if not (folder / PLAN_FILE).exists():
        return "Training had not started; rerun the command."
    last = last_checkpoint(folder / CHECKPOINTS)
    state = (read_state(last) if last else None) or {}
    if not state:
        return f"No epoch was finished, so {folder} has no checkpoint. Rerun with --resume, or start over with --force."
    finished, planned = float(state.get("epoch") or 0), float(state.get("num_train_epochs") or 0)
    return (
        f"Epoch {finished:.0f} of {planned:.0f} is kept in {folder}. "
        "Rerun the same command with --resume, or start over with --force."
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
    try:
        before = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
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


def _has_all_tensors(path: Path) -> bool:
    """Return whether a safetensors file is as long as its header states."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == HEADER_LENGTH_BYTES + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        return False
