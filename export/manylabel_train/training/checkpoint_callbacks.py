"""Which checkpoints stay on the disk: the last, from where a training goes on, and the best or the one before."""

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from manylabel.errors import CannotWrite
from manylabel.system.atomic_write import sync_to_disk
from manylabel_train.training.checkpoints import STATE, checkpoints, is_whole, step_of


class KeepLastAndBest(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Deletes a checkpoint only once a later one is whole and on the disk.

    The Trainer's own `save_total_limit` deletes before the system has written anything through: after a power cut both
    could be gone.
    """

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at what was written, then tidy up."""
        folder = Path(args.output_dir)
        last = folder / f"checkpoint-{state.global_step}"
        for path in (*last.iterdir(), last, folder):
            sync_to_disk(path)
        if not is_whole(last):
            raise CannotWrite(f"{last} was not written whole. Make room on its disk and go on with --resume.")
        former = sorted((path for path in checkpoints(folder) if path != last), key=step_of)
        best = Path(state.best_model_checkpoint or last)
        kept = {last.name, former[-1].name if former and best == last else best.name}  # two, lest one be damaged later
        for path in former:
            if path.name not in kept:
                (path / STATE).unlink(missing_ok=True)  # first: from now on it counts as half written
                shutil.rmtree(path, ignore_errors=True)
