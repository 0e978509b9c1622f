"""Protobuf messages field by field, for what a whole message would copy at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from google.protobuf.message import Message

Kind = TypeVar("Kind", bound=Message)


def copy_fields(source: Message, target: Message, *, without: Collection[str]) -> None:
    """Copies all fields but some into an empty message of the same type."""
    for field, value in source.ListFields():
        if field.name in without:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def around(message: Kind, number: int) -> tuple[bytes, bytes]:
    """What a serialised message has before and after a field, which is left out."""
    numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
    parts = type(message)(), type(message)()
    copy_fields(message, parts[0], without=[name for name, its in numbers.items() if its >= number])
    copy_fields(message, parts[1], without=[name for name, its in numbers.items() if its <= number])
    return parts[0].SerializeToString(), parts[1].SerializeToString()


def header(number: int, size: int) -> bytes:
    """What precedes `size` bytes of a field: its number and kind, and the size."""
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """A number in groups of seven bits, the last first."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
