"""Who keeps the books of a run: what is about to be written, what is done, what has failed. `run` keeps none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import SdeditError

if TYPE_CHECKING:
    from ..pictures.codec import Picture
    from .targets import Job, Target


CLEAN, FLAGGED = "clean", "flagged"


def safety_of(nsfw: bool | None) -> str:
    """What the safety checker has said of a picture; '' where none has looked at it."""
    return "" if nsfw is None else FLAGGED if nsfw else CLEAN


class Ledger:
    """Keeps nothing."""

    def loaded(self, facts: Mapping[str, Any]) -> None:
        """A model was loaded, in these circumstances."""

    def shaped(self, pictures: int) -> None:
        """The model takes so many at a time from now on, in batches that are padded to it."""

    def intends(self, target: Target, sha256: str, input_sha256: str) -> None:
        """A file of that hash is about to get its name."""

    def did(self, target: Target, sha256: str, seconds: float, safety: str) -> None:
        """The file is in place; `safety` is what `safety_of` says of it."""

    def made(self, job: Job, target: Target, picture: Picture, data: bytes) -> None:
        """A picture is in place, or where its target has none, it is for who keeps these books: the input as it was
        worked on, and the bytes of the file."""

    def failed(self, job: Job, error: SdeditError) -> None:
        """Of this job, some picture could not be made."""
