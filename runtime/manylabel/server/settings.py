"""Settings of the server, with their defaults. Times are in seconds."""

from dataclasses import dataclass

from manylabel.errors import InputError

MIN_API_KEY_LENGTH = 16


@dataclass(frozen=True)
class Settings:
    """Limits, timeouts and access rules of a server.

    Attributes:
        name: The model's name in URLs and responses.
        api_key: The key that requests must carry as `Authorization: Bearer KEY`; empty for a server without a key.
        max_body_bytes: Bytes in one request body.
        max_held_bytes: Bytes in all request bodies together.
        max_texts: Texts in one request.
        max_characters: Characters in one text.
        max_queue_tokens: Tokens in the queue, as estimated from the number of characters.
        batch_tokens: On CUDA: tokens in one batch.
        batch_wait: On CUDA: how long a text may wait for its batch to fill.
        timeout: Time for a response. A client can ask for less with `X-Timeout-Ms`.
        body_timeout: Time for a request's body to arrive.
        header_timeout: Time for a request's headers to arrive.
        grace: Time for a graceful shutdown, from the signal to the end of the process.
        cors_origins: Origins from which browsers may call the server.

    Raises:
        InputError: The API key is too short, or contains characters that a header cannot carry.

    Example:
        >>> settings = Settings("reviews", max_texts=100)
        >>> settings.max_texts, settings.timeout
        (100, 10.0)
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

    def __post_init__(self) -> None:
        key = self.api_key
        if key and (len(key) < MIN_API_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key):
            raise InputError(
                f"the API key cannot be used: expected {MIN_API_KEY_LENGTH} or more printable ASCII characters without "
                f"spaces, found {len(key)} characters. Generate a key with openssl rand -hex 32, and set it in "
                "--api-key-file or MANYLABEL_API_KEY."
            )
