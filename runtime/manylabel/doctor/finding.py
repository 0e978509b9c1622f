"""What was found: one thing looked at, how it is, and what to type next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: `"ok"`, `"note"` for what works but should be known, `"fault"` for what keeps from answering.
        says: A sentence.
        next: The command to type, where there is one.
        details: Figures, for JSON.
    """

    name: str
    status: Status
    says: str
    next: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
