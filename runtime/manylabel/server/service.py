"""What the routes share: settings, the model, and the one way from texts to answers."""

from collections.abc import Sequence
from typing import Literal

from starlette.requests import Request

from manylabel.errors import BundleError, InvalidText
from manylabel.server.engine import Answered, Engine, Model
from manylabel.server.refusals import Refusal
from manylabel.server.settings import Settings

Phase = Literal["starting", "ready", "draining"]


class Service:
    """A model being served."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.phase: Phase = "starting"

    @property
    def model(self) -> Model:
        """The model that answers now."""
        return self.engine.model

    @property
    def ready(self) -> bool:
        """Whether texts are taken."""
        return self.phase == "ready"

    def check_name(self, name: str | None, version: str | None = None) -> None:
        """Refuse a path that names another model or version than the one that is served; `None` names none."""
        if name is not None and name != self.model.name:
            raise Refusal(404, "not_found", f"there is no model {name[:80]!r}; this server has {self.model.name!r}.")
        if version is not None and version != self.model.version:
            raise Refusal(
                404, "not_found", f"there is no version {version[:80]!r}; {self.model.name} has {self.model.version!r}."
            )

    async def answer(self, request: Request, texts: Sequence[str]) -> Answered:
        """Answer a request's texts.

        Raises:
            Refusal: They are not answered.
        """
        self._check(texts)
        try:
            return await self.engine.answer(texts)
        except InvalidText as exc:
            raise Refusal(422, "text", str(exc)) from exc
        except BundleError as exc:
            raise Refusal(500, "model", str(exc)) from exc

    def _check(self, texts: Sequence[str]) -> None:
        if not self.ready:
            raise Refusal(503, "draining", f"the server is {self.phase}; it takes no texts.", {"Retry-After": "1"})
        if not texts:
            raise Refusal(422, "text", "there is no text; send 1 or more.")
        if len(texts) > self.settings.max_texts:
            raise Refusal(413, "too_large", f"{len(texts)} texts; a request takes at most {self.settings.max_texts}.")
        for row, text in enumerate(texts):
            if len(text) > self.settings.max_characters:
                limit = self.settings.max_characters
                raise Refusal(
                    413, "too_large", f"text {row} has {len(text):,} characters; at most {limit:,} are taken."
                )
