"""`--preview` and `--animate`: looking at pictures while they form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from ..errors import UsageError
from .flags import FILES, REPORTING, F, option, options
from .paths import FileName
from .render import Reporter
from .screen.ways import AUTO, WAYS

if TYPE_CHECKING:
    from ..batch.request import Animating
    from ..batch.targets import Job

_MOST_REMEMBERED = 50


def preview_options(command: F) -> F:
    """Adds the options for looking at pictures while they form."""
    return options(
        option(
            "--animate",
            type=FileName(),
            metavar="OUT",
            group=FILES,
            help="Also write how the picture forms, a frame a step: .webp, .gif, .png, .mp4, or a template as for -o.",
        ),
        option(
            "--animate-full",
            is_flag=True,
            group=FILES,
            help="Decode every frame of --animate in full, which takes longer than the step itself on some models.",
        ),
        option("--preview", is_flag=True, group=REPORTING, help="Show pictures in the terminal as they form."),
        option(
            "--preview-as",
            type=click.Choice(WAYS),
            group=REPORTING,
            help="Show them so, whatever the terminal seems to be; blocks are letters.  [default: as it seems]",
        ),
    )(command)


def previewing(to: Reporter, preview: bool, preview_as: str | None) -> bool:
    """Whether pictures are shown from now on: where it is asked for, and people watch a terminal."""
    return (preview or preview_as is not None) and to.shows(preview_as or AUTO)


def animations(jobs: Sequence[Job], output: str | None, on_exists: str, *, full: bool) -> Animating | None:
    """The animations of a run; None where none are asked for. Raises UsageError, and OutputError."""
    if output is None:
        if full:
            raise UsageError("--animate-full is for --animate OUT; give that too")
        return None
    from ..batch.animating import animating

    return animating(jobs, output, on_exists, full=full)


def remembered(name: str, find: Callable[[], Any]) -> Any:
    """What was found of an autoencoder in an earlier run, or now; the cache may be gone or closed at any time."""
    from ..disk.hashes import cache_folder
    from ..disk.shelf import Notes

    folder = cache_folder()
    notes = folder and Notes[list[Any]](folder / "sketches.json", _MOST_REMEMBERED, list)
    known = notes.read().get(name) if notes else None
    if _is_table(known):
        return known
    found = find()
    if notes:
        notes.add({name: found})
    return found


def _is_table(value: object) -> bool:
    """Whether it is rows of three numbers each."""
    rows = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(rows) and all(_is_colour(row) for row in rows)


def _is_colour(value: object) -> bool:
    row = cast("list[object]", value) if isinstance(value, list) else []
    return len(row) == 3 and all(isinstance(number, float) for number in row)
