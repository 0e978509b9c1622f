"""A lack of memory is reported as such, even if another error was raised because of it."""

import sys
from types import ModuleType

import pytest

from manylabel import BundleError, DataError, OutOfMemory
from manylabel.system.resource_errors import is_lack_of_memory, memory_errors, memory_for_import, out_of_memory


def raised(inner: Exception, outer: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception as exc:
            raise outer from exc
    except Exception as exc:
        return exc


def test_out_of_memory_error_names_original_cause() -> None:
    exc = raised(MemoryError("malloc of size 64 failed"), DataError("rows.jsonl is damaged. Download it again."))
    assert is_lack_of_memory(exc)
    message = str(out_of_memory(exc, "The same command resumes."))
    assert message.startswith("memory ran out (malloc of size 64 failed). Free some, raise the limit (ulimit -v")
    assert message.endswith("The same command resumes.")
    assert "damaged" not in message


def test_own_error_is_unchanged() -> None:
    exc = raised(OutOfMemory("the graph found none."), BundleError("the graph failed."))
    assert str(out_of_memory(exc, "Go on.")) == "the graph found none. Go on."
    assert str(out_of_memory(MemoryError())).startswith("memory ran out (an allocation failed). ")


@pytest.mark.parametrize(
    "exc",
    [
        ImportError("libfoo.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_library_memory_messages_are_recognised(exc: Exception) -> None:
    with pytest.raises(OutOfMemory, match=r"memory ran out .* Kept\."), memory_errors("Kept."):
        raise exc


@pytest.mark.parametrize(
    "exc", [DataError("row 3 says 'out of memory'"), ImportError("no module"), OSError(2, "No such file")]
)
def test_other_errors_pass_through(exc: Exception) -> None:
    with pytest.raises(type(exc)), memory_errors("Kept."):
        raise exc
    with pytest.raises(type(exc)), memory_for_import("anything", 1):
        raise exc


def test_memory_is_reserved_once_before_import(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1 << 30  # MB: more than any machine can address
    with (
        pytest.raises(OutOfMemory, match="while heavy was loaded, which takes 1,073,741,824 MB"),
        memory_for_import("heavy", most),
    ):
        pytest.fail("it was loaded without room")
    monkeypatch.setitem(sys.modules, "heavy", ModuleType("heavy"))
    with memory_for_import("heavy", most):
        pass
