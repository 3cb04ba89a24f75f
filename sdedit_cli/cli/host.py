"""The models that the jobs of a run need: each checked once, and loaded when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ..batch.request import Request
from ..options import fields
from .preflight import Preflight

if TYPE_CHECKING:
    from .worker import EditorWorker

# What of a model and a machine is settled anew for each picture.
_OF_PICTURES = {"model", "clip_skip", "freeu", "download"}


class Models:
    """See `batch.worker.Host`; `complete` checks also whether the weights would load, and tells what will be used."""

    def __init__(self, tell: Callable[[str], None], *, complete: bool = False) -> None:
        self._tell = tell
        self._complete = complete
        self._preflights: dict[object, Preflight] = {}
        self._warm: tuple[object, EditorWorker] | None = None

    def group(self, request: Request) -> object:
        """Equal for requests that one loaded model carries out."""
        edit = request.edit
        # What image prompts show where they are transparent.
        ground = edit.background if edit.ip_image else None
        return (request.model, edit.sampler is None, ground, *(getattr(edit, name) for name in _of_models()))

    def check(self, request: Request) -> None:
        """Raises what speaks against a request, before anything is loaded."""
        preflight = self._of(request)
        preflight.check(complete=self._complete)
        for line in preflight.told() if self._complete else ():
            self._tell(line)

    def load(
        self, request: Request, warn: Callable[[str], None], loaded: Callable[[Mapping[str, Any]], None]
    ) -> EditorWorker:
        """The model of a request, warm or loaded: `loaded` is told its facts then; `warn` hears what users should
        know."""
        group = self.group(request)
        if self._warm is None or self._warm[0] != group:
            self._warm = None  # two models need twice the memory
            worker = self._of(request).load(warn)
            self._warm = (group, worker)
            loaded(worker.facts)
        return self._warm[1]

    def advice(self, request: Request, size: tuple[int, int]) -> str:
        """What to know of a picture of `size` (width, height); '' when there is nothing to say."""
        return self._of(request).advice(size)

    def _of(self, request: Request) -> Preflight:
        return self._preflights.setdefault(self.group(request), Preflight(request))


@cache
def _of_models() -> tuple[str, ...]:
    """The options for another value of which a model has to be loaded anew."""
    loaded = (field.name for field in fields() if field.option.path or field.option.group in ("Model", "Machine"))
    return tuple(name for name in loaded if name not in _OF_PICTURES)
