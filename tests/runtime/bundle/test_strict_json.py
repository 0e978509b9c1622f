"""JSON is parsed to a dataclass, or an error names the place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel import BundleError
from manylabel.bundle.strict_json import parse


@dataclass(frozen=True)
class Inner:
    name: str
    weight: float


@dataclass(frozen=True)
class Outer:
    count: int
    flag: bool
    kind: Literal["a", "b"]
    inner: tuple[Inner, ...]
    by_name: Mapping[str, float]
    free: Mapping[str, Any]
    perhaps: Inner | None


GOOD: dict[str, Any] = {
    "count": 3,
    "flag": True,
    "kind": "a",
    "inner": [{"name": "x", "weight": 1}, {"name": "y", "weight": 0.5}],
    "by_name": {"one": 1, "half": 0.5},
    "free": {"anything": [1, None, {"x": "y"}]},
    "perhaps": None,
}


def test_json_parses_into_dataclass() -> None:
    expected = Outer(3, True, "a", (Inner("x", 1.0), Inner("y", 0.5)), {"one": 1.0, "half": 0.5}, GOOD["free"], None)
    assert parse(Outer, GOOD, where="here") == expected
    assert asdict(expected) == {**GOOD, "inner": tuple(GOOD["inner"])}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": 3.0}, "here: count: found float '3.0'; expected an integer."),
        ({"count": True}, "here: count: found bool 'True'; expected an integer."),
        ({"count": 2**63}, "here: count: found int '9223372036854775808'"),
        ({"count": -(10**400)}, "here: count: found int '-1000"),
        ({"flag": 1}, "here: flag: found int '1'; expected true or false."),
        ({"kind": "c"}, "here: kind: found str 'c'; expected one of 'a', 'b'."),
        ({"kind": None}, "here: kind: found NoneType"),
        ({"inner": [{"name": "x", "weight": 1}, {"name": "y"}]}, "here: inner[1]: field weight is missing"),
        ({"inner": [{"name": "x", "weight": True}]}, "here: inner[0]: weight: found bool"),
        ({"inner": {"name": "x"}}, "here: inner: found dict \"{'name': 'x'}\"; expected a list."),
        ({"inner": [{"name": 1, "weight": 1}]}, "here: inner[0]: name: found int '1'; expected a string."),
        ({"inner": ["x"]}, "here: inner[0]: expected an object, found str"),
        ({"by_name": {"one": "1"}}, "here: by_name.one: found str '1'; expected a finite number."),
        ({"by_name": {"one": float("nan")}}, "here: by_name.one: found float 'nan'"),
        ({"by_name": {"one": float("inf")}}, "here: by_name.one: found float 'inf'"),
        ({"by_name": []}, "here: by_name: found list '[]'; expected an object."),
        ({"perhaps": {"name": "x"}}, "here: perhaps: field weight is missing"),
        ({"perhaps": 0}, "here: perhaps: expected an object, found int"),
        ({"more": 1, "again": 2}, "here: unknown field again, more"),
    ],
)
def test_type_mismatch_error_has_json_path(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse(Outer, GOOD | change, where="here")
    assert sentence in str(caught.value)


def test_optional_fields_are_parsed() -> None:
    assert parse(Outer, GOOD | {"perhaps": {"name": "x", "weight": 2}}, where="here").perhaps == Inner("x", 2.0)


def test_missing_fields_are_named() -> None:
    with pytest.raises(BundleError, match="field count, flag is missing"):
        parse(Outer, {name: value for name, value in GOOD.items() if name not in ("count", "flag")}, where="here")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_non_object_is_rejected(content: object) -> None:
    with pytest.raises(BundleError, match="expected an object"):
        parse(Outer, content, where="here")
