"""What a cell of labelled data may hold: a text, a split's name, labels, 0 or 1; and what it says that is none."""

import unicodedata
from collections.abc import Sequence

from manylabel.errors import DataError, UnknownLabel
from manylabel.system.did_you_mean import nearest

SPLITS = {
    "train": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""The names that splits go by, and what they are called here."""

NAMES_SHOWN = 30


def check_text(text: object, where: str) -> str:
    """The text, if it is one that is not blank; `where` says where it stood."""
    if not isinstance(text, str) or not text.strip():
        found = "an empty text" if isinstance(text, str) else f"{text!r} for a text"
        raise DataError(f"{where} has {found}. Fill it in or remove the row.")
    return str(text)


def split_name(value: object, where: str) -> str:
    """`"train"`, `"validation"` or `"test"` by any of its names, `""` for nothing; `where` says where it stood."""
    if value is None or value == "":
        return ""
    name = SPLITS.get(str(value).strip().lower())
    if name is None:
        raise DataError(f"{where}: split {value!r} is none of {', '.join(SPLITS)}.")
    return name


def label_names(value: object, column: str, separator: str, where: str) -> list[str]:
    """Labels from a list of names, or a string that separates them; `where` says where it stood."""
    names = value
    if isinstance(value, str):
        names = [part.strip() for part in value.split(separator)] if value.strip() else []
    if not isinstance(names, list) or not all(isinstance(label, str) and label.strip() for label in names):
        raise DataError(
            f"{where}: {column!r} holds {value!r}; expected names separated by {separator!r}, or a list of names."
        )
    return names


def is_one(value: object, column: str, where: str) -> bool | None:
    """Whether a label's own column says 1; None for unknown. `where` says where it stood."""
    said = "" if value is None else str(value).strip().lower()
    if said in {"", "nan"}:
        return None
    if said not in {"0", "1", "0.0", "1.0", "true", "false"}:
        raise DataError(
            f"{where}: column {column!r} holds {value!r}; expected 0 or 1, or nothing where it is not known."
        )
    return said in {"1", "1.0", "true"}


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that are no names, or that come twice."""
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise DataError(f"the label {listed(twice)} comes more than once. Every label needs a name of its own.")
    for label in labels:
        if not isinstance(label, str) or not label.strip() or _has_control(label):
            raise DataError(f"{label!r} is no label's name: it has to be a string, not blank, on one line.")


def unknown_label(label: str, labels: Sequence[str], where: str) -> UnknownLabel:
    """What to raise for a label that is not among those that may occur; `where` says where it stood."""
    close = nearest(label, labels)
    hint = f"Did you mean {close!r}?" if close else f"It is none of {listed(labels)}."
    return UnknownLabel(f"{where}: label {label!r} is not in the given set of {len(labels)}. {hint}")


def listed(names: Sequence[str]) -> str:
    """The names in quotes, thirty of them at most."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(repr(name) for name in names[:NAMES_SHOWN]) + more


def _has_control(label: str) -> bool:
    """Whether a name would break a line, a file or a terminal; lone surrogates are no text at all."""
    return any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in label)
