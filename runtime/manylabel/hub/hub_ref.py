"""`hf://USER/MODEL@REVISION`: which bundle of which hub is meant."""

import re
from dataclasses import dataclass
from pathlib import Path

from manylabel.errors import InputError

FORM = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^@\s]+))?")
MAIN = "main"


@dataclass(frozen=True)
class Reference:
    """A bundle on the hub.

    Attributes:
        repository: `USER/MODEL`.
        revision: A branch, a tag, or a commit.
    """

    repository: str
    revision: str = MAIN

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"

    @classmethod
    def of(cls, path: Path | str) -> "Reference | None":
        """What a path refers to on the hub; None where it is a folder's.

        Raises:
            InputError: It begins as a reference and is none.
        """
        text = str(path)
        begin = re.match(r"hf:/{1,2}", text)  # a Path makes one slash of two
        return cls.parse(text[begin.end() :]) if begin else None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """`USER/MODEL` or `USER/MODEL@REVISION`, with or without `hf://`.

        Raises:
            InputError: It is neither.
        """
        found = FORM.fullmatch(text.removeprefix("hf://"))
        if found is None:
            raise InputError(f"{text!r} names no bundle of the hub. Write USER/MODEL or USER/MODEL@REVISION.")
        return cls(found[1], found[2] or MAIN)


def name_of(path: Path | str) -> str:
    """What a bundle is called where nothing else is said: its repository on the hub, or its folder."""
    reference = Reference.of(path)
    return reference.repository.split("/")[1] if reference else Path(path).absolute().name
