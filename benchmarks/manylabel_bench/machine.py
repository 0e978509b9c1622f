"""What a result was measured on."""

import os
from dataclasses import asdict
from typing import Any

from manylabel.machine import this_machine


def describe() -> dict[str, Any]:
    """The machine with its load."""
    return asdict(this_machine()) | {"load_1min": os.getloadavg()[0]}
