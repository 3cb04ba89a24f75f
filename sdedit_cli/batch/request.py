"""What a run is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import (
    BlockedBySafety,
    InputError,
    NotFiniteError,
    OutputError,
    PictureError,
    SdeditError,
    UsageError,
)
from ..options import WORDS, Edit, fitted

if TYPE_CHECKING:
    from ..pictures.record import Found


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint: its name for people and pictures, and its path, or its id or URL on the Hub (the built-in one has
    neither)."""

    name: str
    path: Path | None
    hub: str | None = None
    knows: str = ""  # what it can draw, for people, where the model says so

    @property
    def built_in(self) -> bool:
        return self.path is None and self.hub is None


@dataclass(frozen=True, slots=True)
class Request:
    """One edit as asked for, the checkpoint that it means, what the picture of `--like` said, and notes for people.

    The edit is `settings`, which requests of a batch have in common, with the `words` that each has for itself.
    """

    settings: Edit
    model: Model
    like: Found | None = None
    notes: tuple[str, ...] = ()
    words: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    @property
    def edit(self) -> Edit:
        return self.settings.varied(self.words) if self.words else self.settings

    def asking(self, edit: Edit) -> Request:
        """The request for another edit."""
        return replace(self, settings=edit, words={})

    def worded(self, words: Mapping[str, Any]) -> Request:
        """The request with other words, which become an edit when it is asked for. Raises UsageError."""
        if self.settings.prompt_embeds is not None:  # with which words may not go together
            return self.asking(self.settings.varied(words))
        assert words.keys() <= WORDS
        others = {name: value for name, value in words.items() if value != getattr(self.settings, name)}
        return Request(self.settings, self.model, self.like, self.notes, fitted(Edit, others))


# What goes wrong with one picture does not concern the others.
_OF_ONE_PICTURE = (PictureError, OutputError, NotFiniteError, BlockedBySafety)


@dataclass(frozen=True, slots=True)
class Animating:
    """The animations that a run writes, by the index of a job and the seed of a picture; `full`: every frame is
    decoded, and not sketched."""

    paths: Mapping[tuple[int, int], Path]
    format: str
    full: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run does besides the edits themselves.

    `keep_going`: what speaks against one request does not end the others; `fail_fast`: the first failure ends it;
    `goes_on`: other runs follow in the same command, and no picture of this one is its last.
    `preview`: pictures are shown as they form; `animating`: and written as animations.
    """

    on_exists: str = "fail"
    save_every: int | None = None
    steps_dir: Path | None = None
    dry_run: bool = False
    max_megapixels: float = 100.0
    drawn_seed: bool = False
    keep_going: bool = False
    fail_fast: bool = False
    goes_on: bool = False
    preview: bool = False
    animating: Animating | None = None

    @property
    def bearable(self) -> tuple[type[SdeditError], ...]:
        """What does not end the run."""
        return (*_OF_ONE_PICTURE, InputError, UsageError) if self.keep_going else _OF_ONE_PICTURE
