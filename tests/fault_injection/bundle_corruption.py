"""Is every damage to a bundle found before anything of it is run?

A copy of the bundle is damaged in one place, `manylabel verify` is asked, and the place is mended again. Found means:
exit code 3 and one line. The controls ask somebody who does not hash: a reader of names and sizes, and ONNX Runtime,
which loads most damaged graphs and answers by them.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from click.testing import CliRunner
from tests.fault_injection import report
from tqdm import tqdm

from manylabel import Bundle, Classifier
from manylabel.bundle.bundle import MANIFEST
from manylabel.cli.main import main as manylabel
from manylabel.errors import BundleError, ManylabelError
from manylabel.inference.length_batching import score_texts
from manylabel.inference.ort_session import Session

PAGE = 4096
SMALL = 64 * 1024
"""Bytes of a file whose every byte is changed; of larger ones, one in every page and some at random."""

Damage = Callable[[Path], object]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--random-bytes", type=click.IntRange(min=1), default=2000, show_default=True, help="In every large file."
)
@click.option("--name", default="corruption", show_default=True, help="Of the result's file.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(bundle: Path, random_bytes: int, name: str, output: Path) -> None:
    """Damage a copy of BUNDLE in every way and count what is found."""
    with TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(bundle, Path(scratch) / "bundle"))
        rows = [_row(what, damages, copy) for what, damages in kinds(copy, random_bytes)]
        notes = [*_controls(copy, random_bytes)]
    command = (
        f"python -m tests.fault_injection.bundle_corruption {shlex.quote(str(bundle))} --output FOLDER --name {name}"
    )
    size = sum(path.stat().st_size for path in bundle.iterdir())
    title = f"Damaged bundles: {bundle.name}, {size / 1e6:.1f} MB"
    click.echo(report.write(output, name, title=title, command=command, rows=rows, notes=notes))


def kinds(bundle: Path, random_bytes: int) -> Iterator[tuple[str, list[Damage]]]:
    """Every kind of damage, and all damages of the kind."""
    files = sorted(path.name for path in bundle.iterdir())
    small = [name for name in files if (bundle / name).stat().st_size <= SMALL]
    large = [name for name in files if name not in small]
    sizes = {name: (bundle / name).stat().st_size for name in files}
    draw = np.random.default_rng(0)
    yield f"every byte of {len(small)} small files", [_flip(name, at) for name in small for at in range(sizes[name])]
    if large:
        pages = [(name, page) for name in large for page in range(0, sizes[name], PAGE)]
        places = [(name, min(page + int(draw.integers(PAGE)), sizes[name] - 1)) for name, page in pages]
        yield f"a byte in every page of {len(large)} large files", [_flip(name, at) for name, at in places]
        some = [(name, int(draw.integers(sizes[name]))) for name in large for _ in range(random_bytes)]
        yield f"{random_bytes:,} random bytes of each", [_flip(name, at) for name, at in some]
    ends = [(name, end) for name in files for end in range(0, sizes[name], PAGE)]
    yield "cut at every page, every file", [_cut(name, end) for name, end in ends]
    yield (
        "a file removed, renamed, emptied",
        [damage(name) for name in files for damage in (_remove, _rename, lambda name: _cut(name, 0))],
    )
    yield "two files swapped", [_swap(one, other) for one in files for other in files if one < other]
    extra = ["notes.txt", ".hidden", *(name.upper() for name in files), *(f"{name}.data" for name in files)]
    yield "a file added, a name in another case among them", [_add(name) for name in extra]
    yield (
        "a link, a hard link, a pipe, a folder in a file's place",
        [damage(name) for name in files for damage in (_link, _hard_link, _pipe, _folder)],
    )
    yield "a pointer of Git LFS in a file's place", [_replace(name, _pointer(sizes[name])) for name in files]


def _row(what: str, damages: Iterable[Damage], bundle: Path) -> dict[str, Any]:
    found = [is_refused(bundle, damage) for damage in tqdm(list(damages), desc=what)]
    sizes = [is_refused(bundle, damage, by=_by_names_and_sizes) for damage in _sample(damages)]
    return {
        "damage": what,
        "done": f"{len(found):,}",
        "found": f"{sum(found):,}",
        "control: found by names and sizes alone": f"{sum(sizes)} of {len(sizes)}",
    }


def _sample(damages: Iterable[Damage], size: int = 100) -> list[Damage]:
    every = list(damages)
    return [every[at] for at in np.random.default_rng(1).permutation(len(every))[:size]]


def is_refused(bundle: Path, damage: Damage, by: Callable[[Path], bool] | None = None) -> bool:
    """Whether a damaged bundle is found out; it is whole again afterwards."""
    with _mended(bundle):
        damage(bundle)
        return (by or _by_verify)(bundle)


def _by_verify(bundle: Path) -> bool:
    done = CliRunner().invoke(manylabel, ["verify", str(bundle), "--device", "cpu", "--threads", "1"])
    return done.exit_code == BundleError.exit_code and len(done.stderr.splitlines()) == 1


def _by_names_and_sizes(bundle: Path) -> bool:
    manifest = Bundle.open(bundle.parent / "whole").manifest
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    sizes[MANIFEST] = len(manifest.to_bytes())
    return {path.name: path.stat().st_size for path in bundle.iterdir()} != sizes


@contextmanager
def _mended(bundle: Path) -> Iterator[None]:
    """Afterwards the bundle is as the whole one beside it: what differs in size or kind, or was touched, is copied."""
    whole = bundle.parent / "whole"
    if not whole.exists():
        shutil.copytree(bundle, whole)
    yield
    for path in bundle.iterdir():
        if not (whole / path.name).exists() or not _as_it_was(path, whole / path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in whole.iterdir():
        if not os.path.lexists(bundle / path.name):
            shutil.copy2(path, bundle / path.name)


def _as_it_was(path: Path, whole: Path) -> bool:
    """By kind, links, size and time: every damage writes, and a write is later than the copy's kept time."""
    one, other = path.lstat(), whole.lstat()
    return (one.st_mode, one.st_nlink, one.st_size, one.st_mtime_ns) == (
        other.st_mode,
        other.st_nlink,
        other.st_size,
        other.st_mtime_ns,
    )


def _controls(bundle: Path, random_bytes: int) -> Iterator[str]:
    """What ONNX Runtime says of graphs with one byte changed, where nobody hashes them."""
    classifier = Classifier.load(bundle, device="cpu", threads=1)
    windows = [each.windows for each in classifier.encode([probe.text for probe in classifier.bundle.manifest.probes])]
    whole, n_labels = classifier.bundle.read(classifier.variant.file), len(classifier.bundle.labels)

    def answers(content: bytes) -> Any:
        session = Session(content, device="cpu", optimized=classifier.precision != "fp32")
        return score_texts(windows, session.run, n_labels=n_labels)

    right, draw, refused, other = answers(whole), np.random.default_rng(2), 0, 0
    for _ in tqdm(range(random_bytes), desc="control"):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] ^= 1 << int(draw.integers(8))
        try:
            other += not np.array_equal(answers(bytes(damaged)), right)
        except ManylabelError:
            refused += 1
    yield (
        f"Control, ONNX Runtime alone on `{classifier.variant.file}` with one bit changed, {random_bytes:,} times: it "
        f"refuses {refused:,}, and of the {random_bytes - refused:,} that it loads {other:,} give other probabilities "
        "for the bundle's own probes."
    )


def _flip(name: str, at: int) -> Damage:
    def damage(bundle: Path) -> None:
        with (bundle / name).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))

    return damage


def _cut(name: str, end: int) -> Damage:
    return lambda bundle: os.truncate(bundle / name, end)


def _replace(name: str, content: bytes) -> Damage:
    return lambda bundle: (bundle / name).write_bytes(content)


def _add(name: str) -> Damage:
    return lambda bundle: (bundle / name).write_text("x")


def _remove(name: str) -> Damage:
    return lambda bundle: (bundle / name).unlink()


def _rename(name: str) -> Damage:
    return lambda bundle: (bundle / name).rename(bundle / f"{name}.orig")


def _swap(one: str, other: str) -> Damage:
    def damage(bundle: Path) -> None:
        (bundle / one).rename(bundle / "aside")
        (bundle / other).rename(bundle / one)
        (bundle / "aside").rename(bundle / other)

    return damage


def _link(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).symlink_to(bundle.parent / "whole" / name)

    return damage


def _hard_link(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        os.link(bundle / name, bundle.parent / f"linked-{os.urandom(8).hex()}")

    return damage


def _pipe(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        (bundle / name).unlink()
        os.mkfifo(bundle / name)

    return damage


def _folder(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).mkdir()

    return damage


def _pointer(size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize {size}\n".encode()


if __name__ == "__main__":
    main()
