"""What goes over the wire: every request and response as a struct, by protocol.

Requests are strict in what they mean and lenient in what they add: a field that is not listed here is ignored, as the
protocols' own servers do. Responses are these fields and no others. `openapi` writes the document from these structs.

| protocol | routes | an error's body |
| --- | --- | --- |
| ours | `POST /v1/classify`, `POST /v1/explain`, `GET /v1/model` | `Problem` (`application/problem+json`) |
| text-embeddings-inference | `POST /predict`, `GET /info`, `/health`, `/metrics` | `TeiError` |
| Open Inference Protocol v2 | `/v2`, `/v2/health/live`, `/v2/health/ready`, `/v2/models/M[/versions/V][/ready or /infer]`, `POST /v2/repository/models/M/load`, `POST /v2/repository/index` | `OipError` |
| Hugging Face inference | `POST /`, `POST /models/M` | `HfError` |

All responses carry `X-Request-Id`; answers to texts also `Server-Timing` (`queue`, `tokenize`, `inference`, `total`).
"""  # noqa: E501  # a table's row is one line

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

TopK = Annotated[int, Meta(ge=1)]


# Ours


class ClassifyRequest(Struct):
    """Texts to classify.

    Attributes:
        inputs: One text or several; one text gives one prediction.
        thresholds: In place of the bundle's own: one for all labels, one a label in column order, or some by name.
        top_k: Probabilities to keep a text, the greatest first; all where it is absent.
        windows: Also give every window that a text was read in: which passage, and its probabilities.
    """

    inputs: str | list[str]
    thresholds: float | list[float] | dict[str, float] | None = None
    top_k: TopK | None = None
    windows: bool = False


class Window(Struct):
    """A passage that the model read at once.

    Attributes:
        start: Of the passage, in characters of the text (Unicode code points).
        end: Behind its last character.
        probabilities: By label, in column order.
    """

    start: int
    end: int
    probabilities: dict[str, float]


class TextPrediction(Struct, omit_defaults=True):
    """What the model says of one text.

    Attributes:
        labels: Those whose probability reaches their threshold, the most probable first; perhaps none.
        probabilities: By label, the most probable first. They need not sum to 1.
        n_tokens: Tokens of the text, special ones included; where `truncated`, of the part that was read.
        truncated: Whether some of the text was not read.
        n_windows: Windows that the text was read in; each label's probability is the greatest of theirs.
        windows: Where asked for: every window, from the start of the text; one where it was read at once.
    """

    labels: list[str]
    probabilities: dict[str, float]
    n_tokens: int
    truncated: bool
    n_windows: int
    windows: list[Window] | UnsetType = UNSET


class ClassifyResponse(Struct):
    """A prediction for every text, in order, and the thresholds that decided."""

    model: str
    version: str
    thresholds: dict[str, float]
    predictions: list[TextPrediction]


class ExplainRequest(Struct):
    """A text whose label is to be explained.

    Attributes:
        input: The text.
        label: Which label; the most probable where it is absent.
    """

    input: str
    label: str | None = None


class ExplainedWord(Struct):
    """A word, and what the label's probability loses without it: above 0 it speaks for the label.

    Attributes:
        start: Of the word, in characters of the text (Unicode code points).
        end: Behind its last character.
        effect: The probability with it less that without it.
    """

    start: int
    end: int
    effect: float


class ExplainedPassage(Struct):
    """A window that the text was read in, with the label's probability of it alone; `start` and `end` as of words."""

    start: int
    end: int
    probability: float


class ExplainResponse(Struct):
    """Which words a label's probability hangs on.

    Attributes:
        model: The model's name.
        version: The version that answered.
        label: The label.
        probability: The greatest of the passages'.
        threshold: The bundle's.
        carried_by: The place in `passages` of the one with the greatest probability, whose words are explained.
        passages: The windows that the text was read in, from its start; one where it was read at once.
        words: The words of that passage, in order.
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
    """A label and the threshold that the bundle gives it."""

    name: str
    threshold: float


class Limits(Struct):
    """What one request may hold at most."""

    max_body_bytes: int
    max_texts: int
    max_characters: int


class ModelInfo(Struct):
    """The model that answers, and what it takes."""

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
    """An error, RFC 9457."""

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


# Text-embeddings-inference


class TeiPredictRequest(Struct):
    """A text, or a batch as a list of lists of one text. A list of two texts is a pair there, and refused here.

    Attributes:
        inputs: `"text"`, `["text"]` or `[["text"], ["text"]]`.
        truncate: `false` refuses a text that cannot be read whole; else the bundle's policy decides.
        truncation_direction: Only `"right"`: texts are read from their start.
        raw_scores: Only `false`: what this server gives are probabilities.
    """

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: Literal["Right", "right", "Left", "left"] = "Right"
    raw_scores: bool = False


class LabelScore(Struct):
    """A label's probability."""

    score: float
    label: str


class TeiClassifier(Struct):
    """The labels, by column and back."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class TeiModelType(Struct):
    """The only type that is served here."""

    classifier: TeiClassifier


class TeiInfo(Struct):
    """What `GET /info` tells."""

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
    """An error in the words of text-embeddings-inference."""

    error: str
    error_type: TeiErrorType


# Open Inference Protocol v2


class OipInput(Struct):
    """A tensor of the request: `text`, BYTES, shape `[n]` or `[n, 1]`; `data` is absent where it follows in binary."""

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


class OipRequestedOutput(Struct):
    """An output by name: `probabilities`, `labels` or `decisions`."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


class OipInferRequest(Struct):
    """Texts as a tensor."""

    inputs: list[OipInput]
    id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[OipRequestedOutput] = field(default_factory=list)


class OipOutput(Struct, omit_defaults=True):
    """A tensor of the response.

    `probabilities` is FP32 of shape `[n, n_labels]`, `labels` BYTES of shape `[n_labels]`: the columns' names. On
    request, `decisions` is BOOL of shape `[n, n_labels]`: whether a probability reaches its label's threshold.
    """

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class OipInferResponse(Struct, omit_defaults=True):
    """Tensors for the texts. `id` is the request's, where it had one."""

    model_name: str
    model_version: str
    outputs: list[OipOutput]
    id: str | UnsetType = UNSET


class OipTensorMetadata(Struct):
    """A tensor's name and kind; -1 is a dimension that varies."""

    name: str
    datatype: str
    shape: list[int]


class OipModelMetadata(Struct):
    """The model and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[OipTensorMetadata]
    outputs: list[OipTensorMetadata]


class OipServerMetadata(Struct):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class OipLive(Struct):
    """Whether the server lives."""

    live: bool


class OipReady(Struct):
    """Whether the server takes texts."""

    ready: bool


class OipModelReady(Struct):
    """Whether the model takes texts."""

    name: str
    ready: bool


class OipLoaded(Struct):
    """What a reload did: the version that answers now, and whether it is another than before."""

    name: str
    version: str
    changed: bool


class OipRepositoryEntry(Struct):
    """A model of the repository."""

    name: str
    version: str
    state: str
    reason: str = ""


class OipError(Struct):
    """An error."""

    error: str


# Hugging Face inference


class HfParameters(Struct):
    """How scores are given. Only the sigmoid is offered: labels are independent."""

    top_k: TopK | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class HfRequest(Struct):
    """One text or several. The answer is a list of labels for each, the most probable first."""

    inputs: str | list[str]
    parameters: HfParameters | None = None


class HfError(Struct):
    """An error."""

    error: str
