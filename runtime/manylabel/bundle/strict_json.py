"""JSON to frozen dataclasses, strictly: nothing missing, nothing unknown, nothing of another type."""

import dataclasses
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from manylabel.errors import BundleError

T = TypeVar("T")

INT64 = 2**63
"""Beyond, an integer is none that others read, and no float may hold what is counted with it."""


def parse(cls: type[T], content: object, *, where: str) -> T:
    """Build a dataclass from parsed JSON.

    Args:
        cls: A dataclass of `int`, `float`, `bool`, `str`, `Literal`, `Any`, `tuple[..., ...]`, `Mapping[str, ...]`,
            other such dataclasses, and any of these `| None`.
        content: What `json.loads` gave.
        where: Names the place in messages.

    Raises:
        BundleError: A field is missing, unknown, or of another type.
    """
    if not isinstance(content, dict):
        raise BundleError(f"{where}: expected an object, found {type(content).__name__}.")
    hints = get_type_hints(cls)
    unknown, missing = sorted(content.keys() - hints.keys()), sorted(hints.keys() - content.keys())
    if unknown:
        raise BundleError(f"{where}: unknown field {', '.join(unknown)}.")
    if missing:
        raise BundleError(f"{where}: field {', '.join(missing)} is missing.")
    return cls(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in content.items()})


def _value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is UnionType and NoneType in arguments:
        return None if value is None else _value(arguments[0], value, where)
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, where=where)  # type: ignore[arg-type]  # a dataclass type
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{where}[{at}]") for at, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and is_number(value):
        return float(value)  # type: ignore[arg-type]  # a number
    if hint is int and type(value) is int and -INT64 <= value < INT64:
        return value
    if hint in (str, bool) and type(value) is hint:
        return value
    raise BundleError(f"{where}: found {type(value).__name__} {str(value)[:40]!r}, which does not belong there.")


def is_number(value: Any) -> bool:
    """Whether it is a number, and one that a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False
