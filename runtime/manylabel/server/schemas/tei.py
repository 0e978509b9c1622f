"""The protocol of text-embeddings-inference (TEI): `/predict`, `/info`."""

from typing import Literal

from msgspec import Struct


class TeiPredictRequest(Struct):
    """One text, or a batch as a list of one-element lists. A list of two strings is a text pair in TEI and is refused.

    Attributes:
        inputs: `"text"`, `["text"]` or `[["text"], ["text"]]`.
        truncate: `false` refuses a text that does not fit; otherwise the bundle's long-text policy applies.
        truncation_direction: Only `"right"` is supported: the start of a text is kept.
        raw_scores: Only `false` is supported: this server returns probabilities.
    """

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: Literal["Right", "right", "Left", "left"] = "Right"
    raw_scores: bool = False


class LabelScore(Struct):
    """A label and its probability."""

    score: float
    label: str


class TeiClassifier(Struct):
    """The labels: column index to name, and back."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class TeiModelType(Struct):
    """The model type. This server serves classifiers only."""

    classifier: TeiClassifier


class TeiInfo(Struct):
    """The response of `GET /info`."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: TeiModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None = None
    docker_label: str | None = None


TeiErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class TeiError(Struct):
    """An error in the format of text-embeddings-inference."""

    error: str
    error_type: TeiErrorType
