"""Is every corruption of a bundle detected before any of it runs?

A copy of the bundle is damaged in one place, `manylabel verify` checks it, and the place is restored. Detected means
exit code 3 and an error of one line. The controls do not hash: a check of names and sizes, and ONNX Runtime, which
loads most damaged graphs and runs them.
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
SMALL_FILE = 64 * 1024
"""Up to this size every byte of a file is changed; in larger files, one byte in every page and some at random."""

Damage = Callable[[Path], object]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--random-bytes",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Random bytes in every large file.",
)
@click.option("--name", default="corruption", show_default=True, help="Name of the result file.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(bundle: Path, random_bytes: int, name: str, output: Path) -> None:
    """Damage a copy of BUNDLE in every way, and count what is detected."""
    with TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(bundle, Path(scratch) / "bundle"))
        rows = [_row(description, damages, copy) for description, damages in list_damages(copy, random_bytes)]
        notes = [*_controls(copy, random_bytes)]
    command = (
        f"python -m tests.fault_injection.bundle_corruption {shlex.quote(str(bundle))} --output FOLDER --name {name}"
    )
    size = sum(path.stat().st_size for path in bundle.iterdir())
    title = f"Damaged bundles: {bundle.name}, {size / 1e6:.1f} MB"
    click.echo(report.write_section(output, name, title=title, command=command, rows=rows, notes=notes))


def list_damages(bundle: Path, random_bytes: int) -> Iterator[tuple[str, list[Damage]]]:
    """Yield the description of every kind of damage, with all damages of the kind."""
    files = sorted(path.name for path in bundle.iterdir())
    small = [name for name in files if (bundle / name).stat().st_size <= SMALL_FILE]
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
    yield "every file truncated at every page", [_cut(name, end) for name, end in ends]
    yield (
        "a file removed, renamed, emptied",
        [damage(name) for name in files for damage in (_remove, _rename, lambda name: _cut(name, 0))],
    )
    yield "two files swapped", [_swap(one, other) for one in files for other in files if one < other]
    extra = ["notes.txt", ".hidden", *(name.upper() for name in files), *(f"{name}.data" for name in files)]
    yield "a file added, also with a name that differs only in case", [_add(name) for name in extra]
    yield (
        "a symlink, a hard link, a pipe or a folder instead of a file",
        [damage(name) for name in files for damage in (_link, _hard_link, _pipe, _folder)],
    )
    yield "a Git LFS pointer instead of a file", [_replace(name, _pointer(sizes[name])) for name in files]


def _row(description: str, damages: Iterable[Damage], bundle: Path) -> dict[str, Any]:
    detected = [is_detected(bundle, damage) for damage in tqdm(list(damages), desc=description)]
    by_size = [is_detected(bundle, damage, check=_check_names_and_sizes) for damage in _sample(damages)]
    return {
        "damage": description,
        "injected": f"{len(detected):,}",
        "detected": f"{sum(detected):,}",
        "control: detected by names and sizes alone": f"{sum(by_size)} of {len(by_size)}",
    }


def _sample(damages: Iterable[Damage], size: int = 100) -> list[Damage]:
    candidates = list(damages)
    return [candidates[at] for at in np.random.default_rng(1).permutation(len(candidates))[:size]]


def is_detected(bundle: Path, damage: Damage, check: Callable[[Path], bool] | None = None) -> bool:
    """Return whether damage to a bundle is detected; the bundle is restored afterwards."""
    with _restored(bundle):
        damage(bundle)
        return (check or _check_with_verify)(bundle)


def _check_with_verify(bundle: Path) -> bool:
    done = CliRunner().invoke(manylabel, ["verify", str(bundle), "--device", "cpu", "--threads", "1"])
    return done.exit_code == BundleError.exit_code and len(done.stderr.splitlines()) == 1


def _check_names_and_sizes(bundle: Path) -> bool:
    manifest = Bundle.open(bundle.parent / "whole").manifest
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    sizes[MANIFEST] = len(manifest.to_bytes())
    return {path.name: path.stat().st_size for path in bundle.iterdir()} != sizes


@contextmanager
def _restored(bundle: Path) -> Iterator[None]:
    """Restore the bundle afterwards from the intact copy beside it; only files that were touched are copied."""
    whole = bundle.parent / "whole"
    if not whole.exists():
        shutil.copytree(bundle, whole)
    yield
    for path in bundle.iterdir():
        if not (whole / path.name).exists() or not _is_untouched(path, whole / path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in whole.iterdir():
        if not os.path.lexists(bundle / path.name):
            shutil.copy2(path, bundle / path.name)


def _is_untouched(path: Path, whole: Path) -> bool:
    """Compare kind, links, size and time; every damage writes, which is later than the time that the copy preserved."""
    one, other = path.lstat(), whole.lstat()
    return (one.st_mode, one.st_nlink, one.st_size, one.st_mtime_ns) == (
        other.st_mode,
        other.st_nlink,
        other.st_size,
        other.st_mtime_ns,
    )


def _controls(bundle: Path, random_bytes: int) -> Iterator[str]:
    """Count how ONNX Runtime treats graphs with one changed bit when nothing hashes them."""
    classifier = Classifier.load(bundle, device="cpu", threads=1)
    windows = [each.windows for each in classifier.encode([probe.text for probe in classifier.bundle.manifest.probes])]
    whole, n_labels = classifier.bundle.read(classifier.variant.file), len(classifier.bundle.labels)

    def predict(content: bytes) -> Any:
        session = Session(content, device="cpu", optimized=classifier.precision != "fp32")
        return score_texts(windows, session.run, n_labels=n_labels)

    expected, draw, rejected, changed = predict(whole), np.random.default_rng(2), 0, 0
    for _ in tqdm(range(random_bytes), desc="control"):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] ^= 1 << int(draw.integers(8))
        try:
            changed += not np.array_equal(predict(bytes(damaged)), expected)
        except ManylabelError:
            rejected += 1
    yield (
        f"Control, ONNX Runtime alone on `{classifier.variant.file}` with one bit changed, {random_bytes:,} times: it "
        f"rejects {rejected:,}, and of the {random_bytes - rejected:,} that it loads {changed:,} give other "
        "probabilities for the bundle's own probes."
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
