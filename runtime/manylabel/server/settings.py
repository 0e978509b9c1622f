"""What can be set, with its defaults. Times are seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How the server answers and what it refuses.

    Attributes:
        name: The model's name in paths and answers.
        api_key: What requests must carry as `Authorization: Bearer`; empty where none is asked for.
        max_body_bytes: Of one request.
        max_held_bytes: Of all requests' bodies together.
        max_texts: Texts in one request.
        max_characters: Of one text.
        max_queue_tokens: Tokens that may wait, as estimated from the texts' characters.
        batch_tokens: On CUDA, tokens that are computed together.
        batch_wait: On CUDA, how long a text may wait for others to fill its batch.
        timeout: Until a request is answered; a client may ask for less with `X-Timeout-Ms`.
        body_timeout: Until a request's body has arrived.
        header_timeout: Until a request's headers have arrived.
        grace: From the signal to end until the end.
        cors_origins: Origins that a browser may call from.
    """

    name: str
    api_key: str = ""
    max_body_bytes: int = 2_000_000
    max_held_bytes: int = 256_000_000
    max_texts: int = 1_000
    max_characters: int = 200_000
    max_queue_tokens: int = 100_000
    batch_tokens: int = 16_384
    batch_wait: float = 0.001
    timeout: float = 10.0
    body_timeout: float = 10.0
    header_timeout: float = 5.0
    grace: float = 30.0
    cors_origins: tuple[str, ...] = ()
