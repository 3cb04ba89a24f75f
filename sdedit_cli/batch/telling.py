"""What a run tells besides its events: programs and people hear of the same things, people once of equal ones."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import SdeditError, first_line, listed
from .common import COMPOSED, Common
from .events import Events
from .request import Request
from .targets import Job, Target
from .worker import Host, Reporter

_MOST_SHOWN = 5


def warn(text: str, to: Reporter, events: Events, source: str | None = None) -> None:
    """A warning for people and programs, about the input `source` where given."""
    events.emit("warning", message=text, **({"input": source} if source else {}))
    to.warn(text)


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

    `common` is what their jobs have in common; `prompts`: people hear of prompts too.
    """

    def __init__(self, host: Host, to: Reporter, events: Events, common: Common, *, prompts: bool = False) -> None:
        self.host = host
        self._common = common
        self._prompts = prompts
        self.to = to
        self.events = events
        self.errors = Errors(to)
        self._advised: set[str] = set()
        self._checked: set[object] = set()
        self._announced: set[object] = set()
        self._said: set[str] = set()

    def warn(self, text: str, source: str | None = None) -> None:
        """A warning, about the input `source` where given."""
        warn(text, self.to, self.events, source)

    def check(self, request: Request) -> None:
        """Checks a request, once for all of its group, as soon as it is clear that there is a picture to edit.

        Raises what speaks against all of them.
        """
        group = self.host.group(request)
        if group not in self._checked:
            self.host.check(request)
            self._checked.add(group)

    def announce(self, request: Request) -> None:
        """Says what holds for all of the request's group."""
        group = self.host.group(request)
        if group in self._announced:
            return
        is_first = not self._announced
        self._announced.add(group)
        for line in self._common.prompts() if is_first and self._prompts else ():
            self.to.note(line)
        self._tell_of(request)
        if is_first:
            self._tell_of_all()

    def _tell_of(self, request: Request) -> None:
        like, model = request.like, request.model
        if like and like.ignored:
            self._once(f"{like.layer.source}: ignored is {'; '.join(like.ignored)}", self.warn)
        for note in request.notes:
            self._once(note, self.to.note)
        if model.built_in:
            self._once("no model named (-m): using the small built-in one", self.to.note)
        if model.knows:
            self._once(f"the {model.name} model knows {model.knows}", self.to.note)

    def _once(self, text: str, tell: Callable[[str], None]) -> None:
        if text not in self._said:
            self._said.add(text)
            tell(text)

    def _tell_of_all(self) -> None:
        common = self._common
        if (bare := common.without_prompt()) is not None:
            self.to.note(f"no prompt (-p){bare}: nothing says what the picture shall show")
        if (several := common.composed()) is not None:
            self.warn(f"AND in the prompt{several}: {COMPOSED}")
        if (whole := common.without_mask()) is not None:
            self.to.note(f"no mask (--mask){whole}: all of the picture is edited")
        self.to.note(f"{common.seeds()}, {common.extent()}")

    def skipped(self, job: Job, target: Target, *, drawn_seed: bool) -> None:
        """Says that an output is there already, and left alone. A seed that was drawn for it is nobody's."""
        self.events.emit(
            "skipped", input=job.source, output=target.shown, **({} if drawn_seed else {"seed": target.seed})
        )
        self.to.note(f"{target.shown} exists already: skipped")

    def size(self, job: Job, size: tuple[int, int]) -> None:
        """Warns of a picture whose size does not suit the model: programs for each, people once in the same words."""
        text = self.host.advice(job.request, size)
        if text in self._advised:
            self.events.emit("warning", message=f"{job.shown}: {text}", input=job.source)
        elif text:
            self._advised.add(text)
            self.warn(f"{job.shown}: {text}", job.source)
