"""Texts to the padded tensors that the graph takes; what the Python backend calls, knowing nothing of Triton."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Manifest
from manylabel.errors import InvalidText
from manylabel.inference.tokenizer import LongText, Tokenizer


@dataclass(frozen=True)
class Settings:
    """What is written down for the backend.

    Attributes:
        inputs: The graph's, in any order.
        max_length: Tokens the graph reads at once.
        prefix: Ids before a text.
        suffix: Ids behind it.
        long_text: What happens to longer texts: `"error"` or `"truncate"`. An ensemble gives a row a text: no windows.
        pad_to: Lengths are rounded up to a multiple of it, so that requests of like length share a batch.
    """

    inputs: tuple[str, ...]
    max_length: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    long_text: str
    pad_to: int

    @classmethod
    def of(cls, manifest: Manifest, inputs: Sequence[str], *, long_text: str, pad_to: int) -> "Settings":
        """A bundle's."""
        around = manifest.special_tokens
        return cls(tuple(inputs), manifest.max_length, around.prefix, around.suffix, long_text, pad_to)

    def to_text(self) -> str:
        """As a parameter of a configuration, which is a string."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Settings":
        """The reverse of `to_text`."""
        given: dict[str, Any] = json.loads(text)
        return cls(**{**given, **{name: tuple(given[name]) for name in ("inputs", "prefix", "suffix")}})


class Tokenising:
    """A tokenizer and how its ids are padded.

    Args:
        serialized: `tokenizer.json`.
        settings: Of the bundle.

    Raises:
        BundleError: It is no tokenizer.
    """

    def __init__(self, serialized: bytes, settings: Settings) -> None:
        policy = LongText("truncate" if settings.long_text == "truncate" else "error", overlap=0)
        self._settings = settings
        self._tokenizer = Tokenizer(
            serialized,
            prefix=settings.prefix,
            suffix=settings.suffix,
            max_length=settings.max_length,
            long_text=policy,
        )

    def tensors(self, texts: Sequence[bytes]) -> Mapping[str, NDArray[Any]]:
        """The tensors of a request.

        Args:
            texts: UTF-8.

        Returns:
            The graph's inputs, shape `(len(texts), length)`, padded with 0, which the mask hides; and `n_tokens` and
            `truncated`, shape `(len(texts), 1)`.

        Raises:
            InvalidText: A text is no UTF-8, or too long under the policy `"error"`.
        """
        encodings = self._tokenizer.encode([_decoded(text, row) for row, text in enumerate(texts)])
        ids = [encoding.windows[0] for encoding in encodings]
        step = self._settings.pad_to
        length = min(-(-max(map(len, ids), default=0) // step) * step, self._settings.max_length)
        padded = np.zeros((len(ids), length), dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, each in enumerate(ids):
            padded[row, : len(each)] = each
            mask[row, : len(each)] = 1
        known = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
        return {
            **{name: known[name] for name in self._settings.inputs},
            "n_tokens": np.array([[each.n_tokens] for each in encodings], dtype=np.int64).reshape(-1, 1),
            "truncated": np.array([[each.truncated] for each in encodings], dtype=np.bool_).reshape(-1, 1),
        }


def _decoded(text: bytes, row: int) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidText(f"text {row} is no UTF-8: {exc.reason} at byte {exc.start}.") from exc
