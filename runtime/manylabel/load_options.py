"""The plan: with which precision, threads and batches a bundle answers best on one machine, as `manylabel tune` found.

It lies beside its bundle, as `BUNDLE.plan.json`: a bundle holds what is the same everywhere. A plan that is not of this
bundle and this machine is not used, and that is said.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.strict_json import parse
from manylabel.bundle.variants import Precision, choose_variant, variants_for
from manylabel.errors import BundleError, InputError
from manylabel.inference.length_batching import USUAL_TOKENS
from manylabel.system.atomic_write import atomic_write_text
from manylabel.system.cpu_quota import available_cores
from manylabel.system.hardware_info import this_machine

MOST_BATCH_TOKENS = 65_536
"""More tokens in a batch than any device gains by: what a plan asks for is bounded, as it carries no signature."""

logger = logging.getLogger("manylabel")


@dataclass(frozen=True)
class Setting:
    """What `Classifier.load` can be told.

    Attributes:
        precision: A variant of the bundle.
        threads: Cores to use.
        batch_tokens: Tokens in a batch at most.
        cuda_graphs: Whether CUDA answers single short texts from recordings.
    """

    precision: str
    threads: int
    batch_tokens: int
    cuda_graphs: bool = False

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        recorded = ", CUDA graphs" if self.cuda_graphs else ""
        return f"{self.precision}, {threads}, batches of {self.batch_tokens} tokens{recorded}"


@dataclass(frozen=True)
class Host:
    """What speed hangs on, and so what a plan is of.

    Attributes:
        cpu: The processor's name.
        architecture: Such as `x86_64`.
        flags: Instruction sets that decide which kernels run.
        cores: How many are granted to the process.
        onnxruntime: The version.
    """

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    onnxruntime: str

    @classmethod
    def here(cls) -> "Host":
        """The one that this process runs on."""
        found = this_machine()
        build = next((name for name in ("onnxruntime", "onnxruntime-gpu") if name in found.versions), "")
        return cls(found.cpu, found.architecture, found.flags, found.cores, found.versions.get(build, ""))


@dataclass(frozen=True)
class Plan:
    """A setting, and what it was found for.

    Attributes:
        bundle: The bundle's digest.
        device: `"cpu"` or `"cuda"`.
        host: Where it was measured.
        setting: What to load with.
        measured: Figures for a reader.
    """

    bundle: str
    device: Literal["cpu", "cuda"]
    host: Host
    setting: Setting
    measured: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write the plan atomically.

        Raises:
            CannotWrite: The folder is read-only or full.
        """
        content = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        atomic_write_text(path, content, advice="Or copy the bundle to a folder that is writable.")

    def unfit(self, bundle: Bundle, device: str | None) -> str:
        """Why it does not hold for a bundle here; "" where it does."""
        return next(self._faults(bundle, device), "")

    def _faults(self, bundle: Bundle, device: str | None) -> Iterator[str]:
        if self.bundle != bundle.digest:
            yield f"it is of another bundle, {self.bundle[:12]}, and this one is {bundle.digest[:12]}"
        if device not in (None, self.device):
            yield f"it is for {self.device}, and this is {device}"
        here = asdict(Host.here())
        for name, measured in asdict(self.host).items():
            if measured != here[name]:
                yield f"it was measured on another machine: {name} was {_shown(measured)} and is {_shown(here[name])}"
        if self.setting.precision not in [each.precision for each in variants_for(bundle, self.device)]:
            yield f"the bundle has no {self.setting.precision} for {self.device}"
        if not (1 <= self.setting.threads <= self.host.cores and 1 <= self.setting.batch_tokens <= MOST_BATCH_TOKENS):
            yield f"no tuning gives {self.setting} on {self.host.cores} cores"
        if self.setting.cuda_graphs and self.device != "cuda":
            yield f"no tuning gives {self.setting} on {self.device}"


@dataclass(frozen=True)
class Found:
    """What lies beside a bundle.

    Attributes:
        path: Where a plan is, or would be.
        plan: One that holds here, or None.
        unfit: Why one that is there does not hold; "" where it does, or there is none.
    """

    path: Path
    plan: Plan | None
    unfit: str = ""

    def __str__(self) -> str:
        if self.plan:
            return f"plan {self.path} for {self.plan.device}: {self.plan.setting}"
        if self.unfit:
            return f"the plan {self.path} is not used: {self.unfit}. Run manylabel tune anew, or remove it."
        return "no plan; manylabel tune makes one for this machine"


def find_plan(bundle: Bundle, device: str | None = None) -> Found:
    """The plan beside a bundle, held against this machine.

    Args:
        bundle: The bundle.
        device: What is going to run, `"cpu"` or `"cuda"`; None for whatever the plan is for.
    """
    path = plan_of(bundle.path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Found(path, None)
    except OSError as exc:
        return Found(path, None, f"it cannot be read ({exc.strerror})")
    try:
        plan = parse(Plan, json.loads(raw), where="it")
    except (ValueError, RecursionError) as exc:
        return Found(path, None, f"it is no plan ({str(exc)[:80]})")
    except BundleError as exc:
        return Found(path, None, f"it is no plan ({str(exc).rstrip('.')})")
    unfit = plan.unfit(bundle, device)
    return Found(path, None if unfit else plan, unfit)


def settle(
    bundle: Bundle,
    device: Literal["cpu", "cuda"],
    *,
    precision: Precision = "auto",
    threads: int | None = None,
    batch_tokens: int | None = None,
    cuda_graphs: bool | None = None,
) -> Setting:
    """With what to load a bundle: what was asked for, else what its plan says, else what is usual.

    Where a plan is there and does not hold, a warning says why.

    Raises:
        InputError: The bundle has no such variant, or it is made for another device; or CUDA graphs are asked of
            another.
    """
    if cuda_graphs and device != "cuda":
        raise InputError(f"cuda_graphs is for CUDA, and {device} is what runs. Leave it out, or load on a GPU.")
    plan = None
    if precision == "auto" or None in (threads, batch_tokens) or (device == "cuda" and cuda_graphs is None):
        found = find_plan(bundle, device)
        plan = found.plan.setting if found.plan else None
        if found.unfit:
            logger.warning("%s", found)
    return Setting(
        plan.precision if plan and precision == "auto" else choose_variant(bundle, device, precision).precision,
        threads or (plan.threads if plan else available_cores()),
        batch_tokens or (plan.batch_tokens if plan else USUAL_TOKENS[device]),
        bool(plan and plan.cuda_graphs) if cuda_graphs is None else cuda_graphs,
    )


def plan_of(bundle: Path) -> Path:
    """Where a bundle's plan lies: beside the folder itself, whatever link leads to it."""
    folder = bundle.resolve()
    return folder.with_name(f"{folder.name}.plan.json")


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value) or "not known"
