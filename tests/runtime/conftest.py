"""Fixtures of the runtime's tests: classifiers, edited bundles, fresh processes, handmade graphs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result
from hypothesis import Phase, settings

from manylabel import Classifier
from manylabel.cli.main import main
from manylabel.inference.tokenizer import LongText, Tokenizer

settings.register_profile("runtime", deadline=None, max_examples=60)
# For `make mutation`: the same examples every time, without shrinking a failing one.
settings.register_profile(
    "mutation", settings.get_profile("runtime"), derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("runtime")

ROOT = Path(__file__).parent.parent.parent
MAIN = "import sys; from manylabel.cli.main import main; main(sys.argv[1:], prog_name='manylabel')"


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    """The int8 variant on the CPU, with two threads."""
    return Classifier.load(bundle, device="cpu", threads=2)


@pytest.fixture(scope="session")
def fp32(bundle: Path) -> Classifier:
    """The fp32 variant on the CPU, with two threads."""
    return Classifier.load(bundle, device="cpu", precision="fp32", threads=2)


@pytest.fixture
def unmeasured() -> dict[str, str]:
    """The environment for a process that is interrupted anywhere: without coverage, whose lock might stay held."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}


class MakeTokenizer(Protocol):
    def __call__(self, serialized: bytes | None = None, *, max_length: int = 32, **long_text: Any) -> Tokenizer: ...


@pytest.fixture(scope="session")
def tokenizer(bundle: Path) -> MakeTokenizer:
    """Make a tokenizer, the toy bundle's or another, with a policy for long texts."""

    def make(serialized: bytes | None = None, *, max_length: int = 32, **long_text: Any) -> Tokenizer:
        return Tokenizer(
            serialized or (bundle / "tokenizer.json").read_bytes(),
            prefix=[2],
            suffix=[3],
            max_length=max_length,
            long_text=LongText(**{"overlap": 2, **long_text}),
        )

    return make


Resign = Callable[..., Path]


@pytest.fixture(scope="session")
def resign() -> Resign:
    """Edit a bundle's manifest and recompute every digest, as the bundle's maker could."""
    return _resign


def _resign(folder: Path, edit: Callable[[dict[str, Any]], object] = lambda manifest: None) -> Path:
    path = folder / "bundle.json"
    content = json.loads(path.read_bytes())
    del content["digest"]
    for name, record in content["files"].items():
        file = (folder / name).read_bytes()
        record.update(bytes=len(file), sha256=hashlib.sha256(file).hexdigest())
    edit(content)
    content["digest"] = hashlib.sha256(_canonical(content)).hexdigest()
    path.write_bytes(_canonical(content))
    return folder


def _canonical(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


class Cli(Protocol):
    def __call__(self, *arguments: object, stdin: str | bytes | None = None) -> Result: ...


@pytest.fixture
def cli() -> Cli:
    """Run `manylabel ...` in this process; an uncaught exception fails the test."""

    def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(main, [str(each) for each in arguments], input=stdin, catch_exceptions=False)

    return run


class Python(Protocol):
    def __call__(
        self, script: str, *arguments: object, path: Sequence[Path] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def python() -> Python:
    """Run a script in a fresh process, with warnings as errors."""

    def run(
        script: str, *arguments: object, path: Sequence[Path] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = filter(None, [os.environ.get("PYTHONPATH")])
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *inherited]), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


Graph = Callable[..., bytes]


@pytest.fixture(scope="session")
def graph() -> Graph:
    """Serialize a small graph with integer inputs, without the package `onnx`: see `_graph`."""
    return _graph


def _graph(
    *operators: str,
    inputs: Sequence[str] = ("input_ids",),
    output: str = "probabilities",
    columns: int | str = 1,
    mean: str = "of a row",
    beside: str = "",
) -> bytes:
    """Return a serialized graph: the mean of the first input, then `operators`.

    Args:
        operators: Operators with one input, applied one after the other.
        inputs: Names of the integer inputs; only the first one is read.
        output: The name of the output.
        columns: The number of columns of the output.
        mean: `"of a row"`, `"of all"`, or `"none"` to take the input as it is.
        beside: A file of external data with one float32 per column, which are added to the mean; empty for none.
    """
    nodes = [_node("Cast", inputs[0], "0", _number_field("to", 1))]
    axes = _field(5, _field(1, b"axes") + _varint(8, 1) + _varint(20, 7)) if mean == "of a row" else b""
    keep = _number_field("keepdims", 1)
    first = "m" if beside else "1"
    nodes.append(_node("Identity", "0", first) if mean == "none" else _node("ReduceMean", "0", first, axes + keep))
    if beside:
        nodes.append(_node("Add", first, "1", _field(1, b"w")))
    for at, operator in enumerate((*operators, "Identity"), start=1):
        nodes.append(_node(operator, str(at), output if at == len(operators) + 1 else str(at + 1)))
    values = b"".join(_field(11, _value(name, 7, ["batch", "sequence"])) for name in inputs)
    body = b"".join(_field(1, node) for node in nodes) + _field(2, b"g") + values
    body += _field(5, _outside(beside, columns)) if beside else b""
    body += _field(12, _value(output, 1, ["batch", columns]))
    return _varint(1, 8) + _field(7, body) + _field(8, _field(1, b"") + _varint(2, 17))


def _varint(number: int, value: int) -> bytes:
    return bytes([*_base128(number << 3), *_base128(value)])


def _base128(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128, *_base128(high)]) if high else bytes([low])


def _field(number: int, content: bytes) -> bytes:
    return _base128(number << 3 | 2) + _base128(len(content)) + content


def _number_field(name: str, value: int) -> bytes:
    return _field(5, _field(1, name.encode()) + _varint(3, value) + _varint(20, 2))


def _node(operator: str, source: str, target: str, attributes: bytes = b"") -> bytes:
    return _field(1, source.encode()) + _field(2, target.encode()) + _field(4, operator.encode()) + attributes


def _outside(name: str, size: int | str) -> bytes:
    """Return an initializer `w` with float32 values from an external file."""
    location = _field(1, b"location") + _field(2, name.encode())
    tensor = _varint(1, int(size)) + _varint(2, 1) + _field(8, b"w")
    return tensor + _field(13, location) + _varint(14, 1)


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    sizes = (_varint(1, size) if isinstance(size, int) else _field(2, size.encode()) for size in shape)
    tensor = _varint(1, kind) + _field(2, b"".join(_field(1, size) for size in sizes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))
