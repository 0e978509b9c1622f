"""How to load a bundle: explicit arguments, then the tuned plan beside the bundle, then defaults.

`manylabel tune` writes a plan, `BUNDLE.plan.json`, with the precision, threads and batch size that are fastest on one
machine. It lies beside the bundle, because a bundle is the same everywhere. A plan for another bundle or machine is
ignored with a warning.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.strict_json import parse
from manylabel.bundle.variants import Precision, choose_variant, variants_for
from manylabel.errors import BundleError, InputError
from manylabel.inference.length_batching import DEFAULT_BATCH_TOKENS
from manylabel.inference.ort_loader import Device
from manylabel.system.hardware_info import available_cores, this_machine

MAX_BATCH_TOKENS = 65_536
"""A plan is not signed, so what it requests is bounded: no device gains from more tokens in a batch."""

logger = logging.getLogger("manylabel")


@dataclass(frozen=True)
class LoadArguments:
    """The arguments that a classifier was loaded with, so that another process can load it again.

    Attributes:
        device: The device that was requested.
        precision: The precision that was requested.
        threads: Threads, or None for the plan or the default.
        batch_tokens: Tokens in a batch at most, or None for the plan or the default.
        cuda_graphs: Whether to capture CUDA graphs, or None for the plan or the default.
        verify_key: A public key that the bundle has to be signed with.
        digest: The digest that the bundle has to have.

    Example:
        >>> LoadArguments(device="cpu", precision="auto", threads=2).batch_tokens is None
        True
    """

    device: Device = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    cuda_graphs: bool | None = None
    verify_key: Path | None = None
    digest: str | None = None


@dataclass(frozen=True)
class LoadConfig:
    """What a classifier runs with.

    Attributes:
        precision: A variant of the bundle.
        threads: The number of threads.
        batch_tokens: Tokens in a batch at most.
        cuda_graphs: Whether single short texts run from captured CUDA graphs.

    Example:
        >>> str(LoadConfig("int8", threads=2, batch_tokens=512))
        'int8, 2 threads, batches of 512 tokens'
    """

    precision: str
    threads: int
    batch_tokens: int
    cuda_graphs: bool = False

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        graphs = ", CUDA graphs" if self.cuda_graphs else ""
        return f"{self.precision}, {threads}, batches of {self.batch_tokens} tokens{graphs}"


@dataclass(frozen=True)
class HardwareFingerprint:
    """What speed depends on, and so what a plan is valid for.

    Attributes:
        cpu: The processor's name.
        architecture: Such as `x86_64`.
        flags: Instruction sets that decide which kernels run.
        cores: The number of cores available to the process.
        onnxruntime: The version.

    Example:
        >>> HardwareFingerprint.current().cores >= 1
        True
    """

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    onnxruntime: str

    @classmethod
    def current(cls) -> "HardwareFingerprint":
        """Return the fingerprint of the machine that this process runs on."""
        machine = this_machine()
        build = next((name for name in ("onnxruntime", "onnxruntime-gpu") if name in machine.versions), "")
        return cls(machine.cpu, machine.architecture, machine.flags, machine.cores, machine.versions.get(build, ""))


@dataclass(frozen=True)
class TunedPlan:
    """The fastest configuration of a bundle on a machine.

    Attributes:
        bundle: The bundle's digest.
        device: `"cpu"` or `"cuda"`.
        host: The machine it was measured on.
        setting: What to load the bundle with.
        measured: The measured figures, for readers.

    Example:
        >>> from manylabel import Bundle
        >>> config = LoadConfig("int8", threads=1, batch_tokens=512)
        >>> plan = TunedPlan("0" * 64, "cpu", HardwareFingerprint.current(), config, measured={})
        >>> plan.mismatch(Bundle.open("bundle"), "cpu")[:42]
        'it is for another bundle, 000000000000; th'
    """

    bundle: str
    device: Literal["cpu", "cuda"]
    host: HardwareFingerprint
    setting: LoadConfig
    measured: Mapping[str, Any]

    def mismatch(self, bundle: Bundle, device: str | None) -> str:
        """Describe why the plan is not valid for a bundle on this machine, or return "" if it is."""
        return next(self._mismatches(bundle, device), "")

    def _mismatches(self, bundle: Bundle, device: str | None) -> Iterator[str]:
        if self.bundle != bundle.digest:
            yield f"it is for another bundle, {self.bundle[:12]}; this one is {bundle.digest[:12]}"
        if device not in (None, self.device):
            yield f"it is for {self.device}; the bundle is loaded on {device}"
        here = asdict(HardwareFingerprint.current())
        for name, measured in asdict(self.host).items():
            if measured != here[name]:
                yield f"it was measured on another machine: {name} was {_show(measured)} and is {_show(here[name])}"
        if self.setting.precision not in [each.precision for each in variants_for(bundle, self.device)]:
            yield f"the bundle has no {self.setting.precision} for {self.device}"
        if not (1 <= self.setting.threads <= self.host.cores and 1 <= self.setting.batch_tokens <= MAX_BATCH_TOKENS):
            yield f"{self.setting} is not a possible result of tuning on {self.host.cores} cores"
        if self.setting.cuda_graphs and self.device != "cuda":
            yield f"{self.setting} is not a possible result of tuning on {self.device}"


@dataclass(frozen=True)
class PlanLookup:
    """The result of looking for a plan beside a bundle.

    Attributes:
        path: Where the plan is, or would be.
        plan: A plan that is valid here, or None.
        mismatch: Why an existing plan is not valid; "" if it is, or if there is none.

    Example:
        >>> from pathlib import Path
        >>> str(PlanLookup(Path("bundle.plan.json"), plan=None))
        'no plan; manylabel tune makes one for this machine'
    """

    path: Path
    plan: TunedPlan | None
    mismatch: str = ""

    def __str__(self) -> str:
        if self.plan:
            return f"plan {self.path} for {self.plan.device}: {self.plan.setting}"
        if self.mismatch:
            return f"the plan {self.path} is ignored: {self.mismatch}. Run manylabel tune again, or remove it."
        return "no plan; manylabel tune makes one for this machine"


def find_plan(bundle: Bundle, device: str | None = None) -> PlanLookup:
    """Look for the plan beside a bundle, and check that it is valid here.

    Args:
        bundle: The bundle.
        device: The device that is going to be used, `"cpu"` or `"cuda"`; None to accept the plan's own.

    Example:
        >>> from manylabel import Bundle
        >>> find_plan(Bundle.open("bundle"), "cpu").plan is None
        True
    """
    path = plan_path(bundle.path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return PlanLookup(path, None)
    except OSError as exc:
        return PlanLookup(path, None, f"it cannot be read ({exc.strerror})")
    try:
        plan = parse(TunedPlan, json.loads(raw), where="it")
    except (ValueError, RecursionError) as exc:
        return PlanLookup(path, None, f"it is not a plan ({str(exc)[:80]})")
    except BundleError as exc:
        return PlanLookup(path, None, f"it is not a plan ({str(exc).rstrip('.')})")
    mismatch = plan.mismatch(bundle, device)
    return PlanLookup(path, None if mismatch else plan, mismatch)


def default_config(bundle: Bundle, device: Literal["cpu", "cuda"], precision: Precision = "auto") -> LoadConfig:
    """Return what a bundle is loaded with if nothing else is given.

    Raises:
        InputError: The bundle has no such variant, or it is made for another device.

    Example:
        >>> from manylabel import Bundle
        >>> default_config(Bundle.open("bundle"), "cpu").batch_tokens
        512
    """
    variant = choose_variant(bundle, device, precision)
    return LoadConfig(variant.precision, available_cores(), DEFAULT_BATCH_TOKENS[device])


def resolve_load_config(
    bundle: Bundle,
    device: Literal["cpu", "cuda"],
    *,
    precision: Precision = "auto",
    threads: int | None = None,
    batch_tokens: int | None = None,
    cuda_graphs: bool | None = None,
) -> LoadConfig:
    """Return what to load a bundle with: each explicit argument, else the plan's value, else the default.

    If there is a plan that is not valid here, a warning says why.

    Raises:
        InputError: The bundle has no such variant, or it is made for another device; or CUDA graphs are requested
            without CUDA.

    Example:
        >>> from manylabel import Bundle
        >>> str(resolve_load_config(Bundle.open("bundle"), "cpu", precision="fp32", threads=2))
        'fp32, 2 threads, batches of 512 tokens'
    """
    if cuda_graphs and device != "cuda":
        raise InputError(f"cuda_graphs needs CUDA, and the device is {device}. Leave it out, or load on a GPU.")
    config = None
    if precision == "auto" or None in (threads, batch_tokens) or (device == "cuda" and cuda_graphs is None):
        lookup = find_plan(bundle, device)
        if lookup.mismatch:
            logger.warning("%s", lookup)
        if lookup.plan:
            config = lookup.plan.setting
    if config is None:
        config = default_config(bundle, device, precision)
    elif precision != "auto":
        config = replace(config, precision=choose_variant(bundle, device, precision).precision)
    return LoadConfig(
        config.precision,
        config.threads if threads is None else threads,
        config.batch_tokens if batch_tokens is None else batch_tokens,
        config.cuda_graphs if cuda_graphs is None else cuda_graphs,
    )


def plan_path(bundle: Path) -> Path:
    """Return the path of a bundle's plan: beside the folder itself, even if `bundle` is a link to it.

    Example:
        >>> from pathlib import Path
        >>> plan_path(Path("bundle")).name
        'bundle.plan.json'
    """
    folder = bundle.resolve()
    return folder.with_name(f"{folder.name}.plan.json")


def _show(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value) or "unknown"
