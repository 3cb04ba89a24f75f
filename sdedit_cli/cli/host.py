"""The models that the jobs of a run need: each checked once, and loaded when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ..batch.request import Request
from ..options import fields
from ..options.files import USUAL
from .backends import check_asked, needs_torch
from .preflight import Preflight

if TYPE_CHECKING:
    from .worker import EditorWorker

# What is settled anew for each picture, and told of each where none is made.
_CHOICES = ("sampler", "schedule", "timesteps", "sigmas", "clip_skip")
# What of a model and a machine is settled anew for each picture.
_OF_PICTURES = {"model", "clip_skip", "freeu", "download", "mask"}
# What a loaded model exchanges.
ADAPTERS = ("lora", "embedding", "ip_adapter", "ip_image", "ip_encoder", "prompt_embeds")
# Each holds an opened checkpoint: of those that a stream of jobs asks for, the last ones.
_MOST_PREFLIGHTS = 8


class Models:
    """See `batch.worker.Host`; `complete` checks also whether the weights would load, and tells what will be used."""

    def __init__(self, tell: Callable[[str], None], *, complete: bool = False) -> None:
        self._tell = tell
        self._complete = complete
        self._preflights: dict[object, Preflight] = {}
        self._warm: tuple[tuple[object, ...], EditorWorker] | None = None

    @property
    def warm(self) -> EditorWorker | None:
        """The model that is loaded."""
        return self._warm and self._warm[1]

    def group(self, request: Request) -> tuple[object, ...]:
        """What has to be loaded for a request, and what is exchanged on a model that is loaded."""
        edit = request.edit
        loaded = (
            request.model,
            edit.prompt_embeds is None,
            needs_torch(edit),
            *(getattr(edit, name) for name in _of_models()),
        )
        # What image prompts show where they are transparent.
        ground = edit.background if edit.ip_image else None
        choices = tuple(getattr(edit, name) for name in _CHOICES) if self._complete else ()
        return loaded, (ground, edit.sampler is None, *choices, *(getattr(edit, name) for name in ADAPTERS))

    def check_asked(self, request: Request) -> None:
        """Raises UsageError for what the backend of a request does not do."""
        check_asked(request.edit)

    def check(self, request: Request) -> None:
        """Raises what speaks against a request and all others of its group, before anything is loaded."""
        preflight = self._of(request)
        preflight.check(complete=self._complete)
        for line in preflight.told() if self._complete else ():
            self._tell(line)

    def check_choices(self, request: Request) -> None:
        """Raises UsageError for steps, a sampler or skipped layers that the model of a request does not have."""
        self._of(request).check_choices(request.edit)

    def load(
        self, request: Request, warn: Callable[[str], None], loaded: Callable[[Mapping[str, Any]], None]
    ) -> EditorWorker:
        """The model of a request, warm, with other adapters, or loaded: `loaded` is told its facts where it is not as
        it was; `warn` hears what users should know."""
        group = self.group(request)
        if self._warm is not None and self._warm[0] == group:
            return self._warm[1]
        worker = self._warm[1] if self._warm is not None and self._warm[0][0] == group[0] else None
        self._warm = None  # two models need twice the memory
        if worker is None:
            worker = self._of(request).load(warn)
            loaded(worker.facts)
        else:
            self._warm = (group[:1], worker)  # where the adapters cannot be had, the model stays
            worker.switch(request, warn)
            loaded({**worker.facts, "switched": True})
        self._warm = (group, worker)
        return worker

    def advice(self, request: Request, size: tuple[int, int]) -> str:
        """What to know of a picture of `size` (width, height); '' when there is nothing to say."""
        return self._of(request).advice(request.edit, size)

    def _of(self, request: Request) -> Preflight:
        group = self.group(request)
        found = self._preflights.pop(group, None) or Preflight(request)
        self._preflights[group] = found
        if len(self._preflights) > _MOST_PREFLIGHTS:
            del self._preflights[next(iter(self._preflights))]
        return found


@cache
def _of_models() -> tuple[str, ...]:
    """The options for another value of which a model has to be loaded anew."""
    loaded = (field.name for field in fields() if field.option.path or field.option.group in ("Model", "Machine"))
    return tuple(name for name in loaded if name not in _OF_PICTURES and name not in ADAPTERS and name not in USUAL)
