"""Hub references, and the one module that imports `huggingface_hub`: its errors become ours here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from manylabel.errors import HubError, InputError, MissingDependency, first_line

MAIN = "main"
LOG_IN = "hf auth login, or set HF_TOKEN"
_FORM = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^@\s]+))?")


@dataclass(frozen=True)
class HubReference:
    """A bundle on the Hub, `hf://USER/MODEL@REVISION`.

    Attributes:
        repository: `USER/MODEL`.
        revision: A branch, a tag, or a commit.

    Example:
        >>> str(HubReference("ada/reviews"))
        'hf://ada/reviews@main'
    """

    repository: str
    revision: str = MAIN

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"

    @classmethod
    def from_path(cls, path: Path | str) -> "HubReference | None":
        """Return the reference that a path spells out, or None for the path of a folder.

        Raises:
            InputError: The path starts with `hf://` but is not a reference.

        Example:
            >>> HubReference.from_path("hf://ada/reviews@v2")
            HubReference(repository='ada/reviews', revision='v2')
            >>> HubReference.from_path("models/reviews") is None
            True
        """
        text = str(path)
        scheme = re.match(r"hf:/{1,2}", text)  # a Path merges the two slashes
        return cls.parse(text[scheme.end() :]) if scheme else None

    @classmethod
    def parse(cls, text: str) -> "HubReference":
        """Parse `USER/MODEL` or `USER/MODEL@REVISION`, with or without `hf://`.

        Raises:
            InputError: The text has another form.

        Example:
            >>> HubReference.parse("ada/reviews").revision
            'main'
        """
        match = _FORM.fullmatch(text.removeprefix("hf://"))
        if match is None:
            raise InputError(f"{text!r} is not a bundle on the Hub. Write USER/MODEL or USER/MODEL@REVISION.")
        return cls(match[1], match[2] or MAIN)


def bundle_name(path: Path | str) -> str:
    """Return a bundle's name: its repository's on the Hub, or its folder's.

    Example:
        >>> bundle_name("hf://ada/reviews@v2"), bundle_name("models/news")
        ('reviews', 'news')
    """
    reference = HubReference.from_path(path)
    return reference.repository.split("/")[1] if reference else Path(path).absolute().name


def load_huggingface_hub() -> ModuleType:
    """Import `huggingface_hub`.

    Raises:
        MissingDependency: It is not installed.

    Example:
        >>> load_huggingface_hub().__name__
        'huggingface_hub'
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
def hub_errors(reference: HubReference, action: str) -> Iterator[None]:
    """Translate what `huggingface_hub` raises in the block.

    Args:
        reference: The repository.
        action: What the block does, such as `"reading model.onnx"`.

    Raises:
        FileNotFoundError: The repository has no such file.
        HubError: The repository is not found on the Hub, access is denied, or the Hub cannot be reached.

    Example:
        >>> with hub_errors(HubReference("ada/reviews"), "reading model.onnx"):
        ...     raise TimeoutError("no answer within 10 s")
        Traceback (most recent call last):
        manylabel.errors.HubError: hf://ada/reviews@main: reading model.onnx failed: no answer within 10 s
    """
    hub = load_huggingface_hub()
    try:
        yield
    except hub.errors.GatedRepoError as exc:
        raise HubError(
            f"{reference} is gated, and this account has no access. Request it at "
            f"{_endpoint(hub)}/{reference.repository}, then log in: {LOG_IN}"
        ) from exc
    except hub.errors.RepositoryNotFoundError as exc:
        raise HubError(
            f"there is no model {reference.repository} at {_endpoint(hub)}, or it is private. "
            f"Check the name; if it is private, log in: {LOG_IN}"
        ) from exc
    except hub.errors.RevisionNotFoundError as exc:
        raise HubError(
            f"{reference.repository} has no revision {reference.revision!r}. Name a branch, a tag or a commit."
        ) from exc
    except hub.errors.LocalEntryNotFoundError as exc:  # also raised when offline
        raise HubError(
            f"{reference}: {action} failed: it is not in the cache, and {_endpoint(hub)} cannot be reached"
            f"{_offline(hub)}. Load the bundle once while connected to the network."
        ) from exc
    except hub.errors.EntryNotFoundError as exc:
        raise FileNotFoundError(first_line(exc)) from exc
    except hub.errors.HfHubHTTPError as exc:
        reasons = {
            401: f"log in with a token that has access: {LOG_IN}",
            403: f"this account lacks permission. Log in with one that has it: {LOG_IN}",
        }
        reason = reasons.get(exc.response.status_code, first_line(exc))
        raise HubError(f"{reference}: {action} was refused: {reason}") from exc
    except Exception as exc:  # from its HTTP library (requests or httpx, by release) or its parsers
        raise HubError(f"{reference}: {action} failed: {first_line(exc)}") from exc


def _endpoint(hub: ModuleType) -> str:
    return str(hub.constants.ENDPOINT)


def _offline(hub: ModuleType) -> str:
    return ", because HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else ""
