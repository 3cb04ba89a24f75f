"""What a run needs of others: someone who edits, and someone who tells people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ..errors import SdeditError
    from ..options import Edit
    from ..pictures.codec import Picture
    from .request import Request


class Preview(Protocol):
    """The picture as it is after a step: called, decoded in full, which takes as long as some steps, and none where
    that is not finite; sketched, what the model sees in it by now, in no time. `glimpse` waits until the step is done,
    and gives what makes the sketch."""

    @property
    def glimpse(self) -> Callable[[], Callable[[], Image.Image]]: ...
    def __call__(self) -> list[Image.Image]: ...
    def sketch(self) -> Image.Image: ...


# Called with (steps done, steps to do, preview) after each step.
OnStep = Callable[[int, int, Preview], "bool | None"]


class Late:
    """The bytes of a file, made by whoever first asks for them; sent to another process they are bytes."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make

    def value(self) -> bytes:
        """The bytes. Raises what speaks against such a file."""
        return self._make()

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (self.value(),)


@dataclass(frozen=True)
class EditedPicture:
    """A finished picture's file, its size, and what the safety checker said (None without one)."""

    data: bytes | Late
    width: int
    height: int
    nsfw: bool | None


@dataclass(frozen=True, eq=False)
class Task:
    """A picture to make: the edit with its seed, the input (called `name` in errors), and the format of its file."""

    edit: Edit
    picture: Picture
    name: str
    format: str
    on_step: OnStep | None = None


class Worker(Protocol):
    """A loaded model that edits pictures."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was loaded: model, device, dtype, sampler, seconds."""
        ...

    def edits(
        self, tasks: Iterable[Task], size: int | None = None
    ) -> Iterator[tuple[Task, EditedPicture | SdeditError]]:
        """Every task with its picture, or with what speaks against it, as they end; `size` of them at a time (None:
        one, in a batch of its own shape).

        Raises OutOfMemory: those that were under way can be given again.
        """
        ...


class Host(Protocol):
    """Who knows models: checks requests, loads what they need, and says what suits it."""

    def group(self, request: Request) -> tuple[object, ...]:
        """What requests have in common that one loaded model carries out, the first part dearest to change: those of
        an equal beginning come one after the other."""
        ...

    def check(self, request: Request) -> None:
        """Raises what speaks against a request and all others of its group, before anything is loaded."""
        ...

    def check_asked(self, request: Request) -> None:
        """Raises what speaks against a request alone, whatever its model: what the backend does not do."""
        ...

    def check_choices(self, request: Request) -> None:
        """Raises what speaks against a request alone: steps or a sampler, say, that its model does not have."""
        ...

    def load(
        self, request: Request, warn: Callable[[str], None], loaded: Callable[[Mapping[str, Any]], None]
    ) -> Worker:
        """The model of a request: that of the last time, or loaded, which `loaded` is told with the facts (with
        `switched` where the model was there and its adapters were not); `warn` hears what users should know."""
        ...

    def advice(self, request: Request, size: tuple[int, int]) -> str:
        """What to know of a picture of `size` (width, height); '' when there is nothing to say."""
        ...


class Reporter(Protocol):
    """Tells people what happens."""

    def error(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...
    def loading(self, name: str) -> None: ...
    def picture(self, name: str, number: int, total: int) -> None: ...
    def group(self, pictures: int, size: int) -> None: ...
    def ended(self, pictures: int, total: int) -> None: ...
    def step(self, done: int, steps: int) -> None: ...
    def look(self, image: Image.Image) -> None: ...
