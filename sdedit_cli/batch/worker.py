"""What a run needs of others: someone who edits, and someone who tells people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ..options import Edit
    from ..pictures.codec import Picture

# Called with (steps done, steps to do, preview) after each step.
OnStep = Callable[[int, int, "Callable[[], list[Image.Image]]"], "bool | None"]


@dataclass(frozen=True)
class EditedPicture:
    """The bytes of a finished picture's file, its size, and what the safety checker said (None without one)."""

    data: bytes
    width: int
    height: int
    nsfw: bool | None


class Worker(Protocol):
    """A loaded model that edits pictures."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was loaded: model, device, dtype, sampler, seconds."""
        ...

    def edit(
        self, edit: Edit, picture: Picture, name: str, format: str, on_step: OnStep | None = None
    ) -> EditedPicture:
        """`picture` (called `name` in errors) edited with the seed of `edit`, as a file of this format.

        Raises NotFiniteError, and BlockedBySafety when the checker flags the result and the edit asks for a block.
        """
        ...


class Reporter(Protocol):
    """Tells people what happens."""

    def error(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...
    def loading(self, name: str) -> None: ...
    def picture(self, name: str, number: int, total: int) -> None: ...
    def step(self, done: int, steps: int) -> None: ...
