"""What is known of pictures while they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import SdeditError
from ..pictures.codec import Picture
from .looking import Frames
from .targets import Job, Target
from .worker import EditedPicture


@dataclass(eq=False)
class Open:
    """A job under way: how many of its pictures have not ended yet, and what spoke against the others."""

    job: Job
    left: int
    refused: list[SdeditError] = field(default_factory=list[SdeditError])


@dataclass(eq=False)
class Under:
    """A picture under way, how many steps of it are counted on (a dark mask makes them fewer), and are done; and why
    pictures of its steps cannot be written."""

    of: Open
    target: Target
    picture: Picture
    started: float
    expected: int
    steps: int = 0
    refused: SdeditError | None = None
    frames: Frames = field(default_factory=Frames)


@dataclass(frozen=True, eq=False)
class Finished:
    """A picture that is to be written."""

    under: Under
    edited: EditedPicture


@dataclass(frozen=True, slots=True)
class Saved:
    """A picture that is in place."""

    target: Target
    sha256: str
    seconds: float
