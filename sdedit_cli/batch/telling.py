"""What a run tells besides its events: programs and people hear of the same things, people once of equal ones."""

from __future__ import annotations

from ..errors import SdeditError, first_line, listed
from .events import Events
from .request import Request
from .targets import Job
from .worker import Host, Reporter

_MOST_SHOWN = 5


class Errors:
    """Errors for people: what is equal of several inputs is said once, and at the end of which others it holds."""

    def __init__(self, to: Reporter) -> None:
        self._to = to
        self._more: dict[str, list[str]] = {}

    def tell(self, error: SdeditError, where: str, reason: str) -> None:
        """An error at `where`; others of the same `reason` (which names no input) are told together."""
        if reason in self._more:
            self._more[reason].append(where)
            return
        self._more[reason] = []
        self._to.error(str(error))

    def close(self) -> None:
        """Says where else that held which was said."""
        for reason, others in self._more.items():
            if others:
                self._to.error(f"{listed(others, _MOST_SHOWN)} too: {first_line(reason)}")
        self._more.clear()


class Telling:
    """Tells people by `to` and programs by `events` what `host` knows of requests and pictures.

    `alike`: whether steps and strength are those of all jobs.
    """

    def __init__(self, host: Host, to: Reporter, events: Events, *, alike: bool = True) -> None:
        self.host = host
        self._alike = alike
        self.to = to
        self.events = events
        self.errors = Errors(to)
        self._advised: set[str] = set()
        self._announced: set[object] = set()

    def warn(self, text: str, source: str | None = None, *, quietly: bool = False) -> None:
        """A warning, about the input `source` where given; `quietly` for programs alone."""
        self.events.emit("warning", message=text, **({"input": source} if source else {}))
        if not quietly:
            self.to.warn(text)

    def announce(self, request: Request) -> None:
        """Checks a request once it is clear that there is a picture to edit, and says what holds for all of its.

        Raises what speaks against it.
        """
        group = self.host.group(request)
        if group in self._announced:
            return
        self.host.check(request)
        is_first = not self._announced
        self._announced.add(group)
        if is_first:
            self._tell_of(request)

    def _tell_of(self, request: Request) -> None:
        edit, like = request.edit, request.like
        if like and like.ignored:
            self.warn(f"{like.layer.source}: ignored is {'; '.join(like.ignored)}")
        for note in request.notes:
            self.to.note(note)
        if request.model.built_in:
            self.to.note("no model named (-m): using the small built-in one")
        if request.model.knows:
            self.to.note(f"the {request.model.name} model knows {request.model.knows}")
        if not edit.prompt and edit.prompt_embeds is None:
            self.to.note("no prompt (-p): nothing says what the picture shall show")
        if edit.lacks_mask:
            self.to.note("no mask (--mask): all of the picture is edited")
        seed = "a new seed" if edit.seed is None else f"seed {edit.seed}"
        self.to.note(f"{seed}, {edit.extent() if self._alike else 'steps or strengths of their own for each picture'}")

    def size(self, job: Job, size: tuple[int, int]) -> None:
        """Warns of a picture whose size does not suit the model: programs for each, people once in the same words."""
        text = self.host.advice(job.request, size)
        if text:
            self.warn(f"{job.shown}: {text}", job.source, quietly=text in self._advised)
            self._advised.add(text)
