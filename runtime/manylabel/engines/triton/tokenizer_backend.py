"""Texts to the padded tensors of the graph: what the Python backend calls. Does not depend on Triton."""

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
class TokenizerSettings:
    """The settings that the backend reads from its configuration.

    Attributes:
        inputs: The names of the graph's inputs, in any order.
        max_length: Tokens that the graph reads at most.
        prefix: Token ids before a text.
        suffix: Token ids after a text.
        long_text: What happens to longer texts: `"error"` or `"truncate"`. An ensemble returns one row per text, so
            there are no windows.
        pad_to: Lengths are rounded up to a multiple of it, so that requests of similar length share a batch.

    Example:
        >>> settings = TokenizerSettings(("input_ids",), 512, (101,), (102,), "error", 16)
        >>> TokenizerSettings.from_text(settings.to_text()) == settings
        True
    """

    inputs: tuple[str, ...]
    max_length: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    long_text: str
    pad_to: int

    @classmethod
    def from_manifest(
        cls, manifest: Manifest, inputs: Sequence[str], *, long_text: str, pad_to: int
    ) -> "TokenizerSettings":
        """Return the settings for a bundle."""
        special = manifest.special_tokens
        return cls(tuple(inputs), manifest.max_length, special.prefix, special.suffix, long_text, pad_to)

    def to_text(self) -> str:
        """Return the settings as the string parameter of a configuration."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "TokenizerSettings":
        """Return the settings that `to_text` wrote."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, **{name: tuple(fields[name]) for name in ("inputs", "prefix", "suffix")}})


class PaddingTokenizer:
    """A tokenizer that pads its ids to the tensors of the graph.

    Args:
        serialized: The content of `tokenizer.json`.
        settings: The bundle's settings.

    Raises:
        BundleError: It is not a tokenizer.
    """

    def __init__(self, serialized: bytes, settings: TokenizerSettings) -> None:
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
        """Return the tensors of a request.

        Args:
            texts: The texts in UTF-8.

        Returns:
            The graph's inputs, shape `(len(texts), length)`, padded where the attention mask is 0; and `n_tokens` and
            `truncated`, shape `(len(texts), 1)`.

        Raises:
            InvalidText: A text is not UTF-8, or too long under the policy `"error"`.
        """
        encodings = self._tokenizer.encode([_decode(text, row) for row, text in enumerate(texts)])
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


def _decode(text: bytes, row: int) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidText(f"text {row} is not UTF-8: {exc.reason} at byte {exc.start}.") from exc
