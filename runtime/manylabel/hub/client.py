"""The one place that knows `huggingface_hub`: the library, and its errors as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from manylabel.errors import HubError, MissingDependency
from manylabel.hub.hub_ref import Reference


def library() -> ModuleType:
    """`huggingface_hub`.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as exc:
        raise MissingDependency('hf:// and push need huggingface_hub. pip install "manylabel[hub]"') from exc
    module: ModuleType = huggingface_hub
    return module


@contextmanager
def sentences(reference: Reference, doing: str) -> Iterator[None]:
    """What the library raises, as an error of ours.

    Args:
        reference: What was asked for.
        doing: Such as `reading model.onnx`.

    Raises:
        FileNotFoundError: The repository has no such file.
        HubError: The hub has it not, gives it not, or cannot be reached.
    """
    hub = library()
    try:
        yield
    except hub.errors.GatedRepoError as exc:
        raise HubError(
            f"{reference} is gated, and this account has no access yet. Ask for it at "
            f"{_endpoint(hub)}/{reference.repository}, then log in: {LOG_IN}"
        ) from exc
    except hub.errors.RepositoryNotFoundError as exc:
        raise HubError(
            f"there is no model {reference.repository} at {_endpoint(hub)}, or it is private. "
            f"Check the name; for one that is private, log in: {LOG_IN}"
        ) from exc
    except hub.errors.RevisionNotFoundError as exc:
        raise HubError(
            f"{reference.repository} has no revision {reference.revision!r}. Name a branch, a tag or a commit."
        ) from exc
    except hub.errors.LocalEntryNotFoundError as exc:  # also what being offline becomes
        raise HubError(
            f"{reference}: {doing} failed: the cache does not have it, and {_endpoint(hub)} cannot be reached"
            f"{_offline(hub)}. Load it once where there is a network."
        ) from exc
    except hub.errors.EntryNotFoundError as exc:
        raise FileNotFoundError(_first_line(exc)) from exc
    except hub.errors.HfHubHTTPError as exc:
        said = {401: f"log in with a token that may: {LOG_IN}", 403: f"this account may not. {LOG_IN}, of one that may"}
        raise HubError(
            f"{reference}: {doing} was refused: {said.get(exc.response.status_code, _first_line(exc))}"
        ) from exc
    except Exception as exc:  # of its transport, which is requests in one release and httpx in the next; of its parsers
        raise HubError(f"{reference}: {doing} failed: {_first_line(exc)}") from exc


LOG_IN = "hf auth login, or the environment's HF_TOKEN"


def _endpoint(hub: ModuleType) -> str:
    return str(hub.constants.ENDPOINT)


def _offline(hub: ModuleType) -> str:
    return ", as HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else ""


def _first_line(exc: Exception) -> str:
    """What an error says, on one line; the library's own errors bring hints in lines after it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
