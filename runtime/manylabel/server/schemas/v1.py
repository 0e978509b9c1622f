"""The native protocol, `/v1`: classify texts, explain a label, describe the model."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

TopK = Annotated[int, Meta(ge=1)]


class ClassifyRequest(Struct):
    """Texts to classify.

    Attributes:
        inputs: One text or a list of texts. One text gives one prediction.
        thresholds: Override the bundle's thresholds: one value for all labels, one per label in column order, or
            values by label name.
        top_k: Number of probabilities to return per text, highest first. All of them if absent.
        windows: Also return every window of the text: its position and its probabilities.
    """

    inputs: str | list[str]
    thresholds: float | list[float] | dict[str, float] | None = None
    top_k: TopK | None = None
    windows: bool = False


class Window(Struct):
    """A passage that the model read at once.

    Attributes:
        start: Start of the passage, in characters of the text (Unicode code points).
        end: End of the passage, exclusive.
        probabilities: Probability per label, in column order.
    """

    start: int
    end: int
    probabilities: dict[str, float]


class TextPrediction(Struct, omit_defaults=True):
    """The prediction for one text.

    Attributes:
        labels: Labels whose probability reaches their threshold, most probable first; may be empty.
        probabilities: Probability per label, most probable first. They need not sum to 1.
        n_tokens: Tokens in the text, special tokens included; if `truncated`, in the part that was read.
        truncated: Whether a part of the text was not read.
        n_windows: Windows that the text was split into. A label's probability is its maximum over the windows.
        windows: Every window, in order; only if requested. A short text has one.
    """

    labels: list[str]
    probabilities: dict[str, float]
    n_tokens: int
    truncated: bool
    n_windows: int
    windows: list[Window] | UnsetType = UNSET


class ClassifyResponse(Struct):
    """One prediction per text, in input order, and the thresholds that were applied."""

    model: str
    version: str
    thresholds: dict[str, float]
    predictions: list[TextPrediction]


class ExplainRequest(Struct):
    """A text and the label to explain.

    Attributes:
        input: The text.
        label: The label to explain. The most probable label if absent.
    """

    input: str
    label: str | None = None


class ExplainedWord(Struct):
    """A word and its effect on the label's probability; a positive effect supports the label.

    Attributes:
        start: Start of the word, in characters of the text (Unicode code points).
        end: End of the word, exclusive.
        effect: The probability with the word minus the probability without it.
    """

    start: int
    end: int
    effect: float


class ExplainedPassage(Struct):
    """A window of the text and the label's probability for that window alone.

    Attributes:
        start: Start of the window, in characters of the text (Unicode code points).
        end: End of the window, exclusive.
        probability: The label's probability for this window.
    """

    start: int
    end: int
    probability: float


class ExplainResponse(Struct):
    """The effect of each word on a label's probability.

    Attributes:
        model: The model's name.
        version: The model version that computed the explanation.
        label: The explained label.
        probability: The label's probability: its maximum over the passages.
        threshold: The bundle's threshold for the label.
        carried_by: Index in `passages` of the passage with the highest probability; its words are explained.
        passages: The windows that the text was split into, in order. A short text has one.
        words: The words of the passage `carried_by`, in order.
    """

    model: str
    version: str
    label: str
    probability: float
    threshold: float
    carried_by: int
    passages: list[ExplainedPassage]
    words: list[ExplainedWord]


class LabelInfo(Struct):
    """A label and its threshold in the bundle."""

    name: str
    threshold: float


class Limits(Struct):
    """Limits on one request."""

    max_body_bytes: int
    max_texts: int
    max_characters: int


class ModelInfo(Struct):
    """The served model and the limits on a request."""

    name: str
    version: str
    precision: str
    device: str
    labels: list[LabelInfo]
    max_length: int
    long_text: Literal["window", "truncate", "error"]
    max_windows: int
    thresholds_tuned: bool
    limits: Limits


class Problem(Struct):
    """An error as RFC 9457 problem details."""

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"
