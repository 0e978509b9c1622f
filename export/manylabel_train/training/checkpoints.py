"""What an interrupted training leaves beside its output, and what of it is whole.

Light to import, as a signal may come before PyTorch is loaded.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STATE = "trainer_state.json"
PLAN_FILE = "plan.json"
CHECKPOINTS = "checkpoints"
LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, which says where the last tensor ends."""


def remains_of(output: Path) -> Path:
    """Where the remains of an interrupted run of `output` lie."""
    return output.with_name(f".{output.name}.partial")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole, so that an older one serves where the newest is damaged."""
    return max(filter(is_whole, checkpoints(folder)), key=step_of, default=None)


def checkpoints(folder: Path) -> Sequence[Path]:
    """All checkpoints in a folder, half-written ones among them."""
    return [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()]


def step_of(checkpoint: Path) -> int:
    """How many steps of the optimiser a checkpoint had seen."""
    return int(checkpoint.name.rpartition("-")[2])


def is_whole(checkpoint: Path) -> bool:
    """Whether nothing of a checkpoint is missing or cut off. The Trainer writes its state last."""
    tensors = [*checkpoint.glob("*.safetensors")]
    pickled = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]
    return (
        bool(tensors)
        and (checkpoint / "optimizer.pt") in pickled
        and state_of(checkpoint) is not None
        and all(map(_has_all_tensors, tensors))
        and all(map(zipfile.is_zipfile, pickled))  # a zip's directory is at its end
    )


def state_of(checkpoint: Path) -> dict[str, Any] | None:
    """The Trainer's state, its log among it; None where it is absent or half written."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and "log_history" in state else None


def what_is_kept(output: Path) -> str:
    """A sentence or two for whoever was interrupted: what is kept, and how to go on."""
    remains = remains_of(output)
    if not (remains / PLAN_FILE).exists():
        return "Nothing was begun; give the command again."
    last = last_checkpoint(remains / CHECKPOINTS)
    state = (state_of(last) if last else None) or {}
    if not state:
        return f"No epoch was done, so nothing is kept but the plan in {remains}. Start over with --force, or --resume."
    done, planned = float(state.get("epoch") or 0), float(state.get("num_train_epochs") or 0)
    return (
        f"Epoch {done:.0f} of {planned:.0f} is kept in {remains}. "
        "Go on with the same command and --resume, or start over with --force."
    )


def _has_all_tensors(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == LENGTH_BYTES + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        return False
