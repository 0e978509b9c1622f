"""JSON to frozen dataclasses, strictly: a missing field, an unknown field or another type is an error."""

import dataclasses
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from manylabel.errors import BundleError

T = TypeVar("T")

INT64 = 2**63
"""Larger integers are rejected: other readers do not accept them, and they may exceed a float's range."""


def parse(cls: type[T], content: object, *, where: str) -> T:
    """Build a dataclass from parsed JSON.

    Args:
        cls: A dataclass of `int`, `float`, `bool`, `str`, `Literal`, `Any`, `tuple[..., ...]`, `Mapping[str, ...]`,
            other such dataclasses, and any of these `| None`.
        content: The result of `json.loads`.
        where: Names the place in error messages.

    Raises:
        BundleError: A field is missing, unknown, or of another type.

    Example:
        >>> from manylabel.bundle.certificate import Estimate
        >>> parse(Estimate, {"value": 0.9, "low": 0.8, "high": 1}, where="here")
        Estimate(value=0.9, low=0.8, high=1.0)
        >>> parse(Estimate, {"value": 0.9, "low": 0.8}, where="here")
        Traceback (most recent call last):
        manylabel.errors.BundleError: here: field high is missing.
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
    raise BundleError(f"{where}: found {type(value).__name__} {str(value)[:40]!r}; expected {_describe(hint)}.")


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    return {
        tuple: "a list",
        Mapping: "an object",
        float: "a finite number",
        int: "an integer",
        bool: "true or false",
    }.get(get_origin(hint) or hint, "a string")


def is_number(value: Any) -> bool:
    """Return whether a value is an integer or a float, finite and within a float's range.

    Example:
        >>> is_number(3), is_number("3"), is_number(float("nan")), is_number(10**400)
        (True, False, False, False)
    """
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond a float's range
        return False
