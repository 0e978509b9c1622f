"""Write a tuned plan beside its bundle, where `manylabel.load_options` finds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from manylabel.bundle.bundle import Bundle
from manylabel.load_options import HardwareFingerprint, LoadConfig, TunedPlan, plan_path
from manylabel.system.atomic_write import atomic_write_text


def write_plan(bundle: Bundle, device: Literal["cpu", "cuda"], config: LoadConfig, measured: Mapping[str, Any]) -> Path:
    """Write a plan for a bundle on this machine, replacing an existing one.

    Args:
        bundle: The bundle.
        device: The device that was measured.
        config: The configuration to load the bundle with from now on.
        measured: The measured figures, for readers.

    Returns:
        The path of the plan.

    Raises:
        CannotWrite: The disk is full, or the bundle's parent folder is read-only.

    Example:
        >>> write_plan(Bundle.open("bundle"), "cpu", LoadConfig("int8", 1, 512), measured={}).name
        'bundle.plan.json'
    """
    path = plan_path(bundle.path)
    plan = TunedPlan(bundle.digest, device, HardwareFingerprint.current(), config, measured)
    content = json.dumps(asdict(plan), indent=1, ensure_ascii=False) + "\n"
    atomic_write_text(path, content, advice="Or copy the bundle to a folder that is writable.")
    return path
