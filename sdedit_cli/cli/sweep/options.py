"""The options of `sdedit run --sweep`, and what of them goes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from ...errors import UsageError, shortened
from ..flags import F, option, options
from ..paths import FileName

SWEEP = "Sweep"
_MOST_PICTURES = 1000


def sweep_options(command: F) -> F:
    """Adds the options of a sweep."""
    return options(
        option(
            "--sweep",
            "sweep",
            multiple=True,
            metavar="OPTION=V,V,...",
            group=SWEEP,
            help="Make a picture with each of these values of an option (or 'preset'). Repeated, every combination:"
            " the first option across, the second down, others as blocks of one sheet, which is what -o names then.",
        ),
        option(
            "--sweep-dir",
            type=FileName(),
            metavar="DIR",
            group=SWEEP,
            help="Keep the single pictures too, in this folder, named by their values.",
        ),
        option(
            "--sweep-realism",
            type=FileName(),
            metavar="FOLDER",
            group=SWEEP,
            help="Real pictures of the kind that the results should look like: the plot of --sweep strength=... then"
            " shows how far each result is from them in features, against how far from its input.",
        ),
        option(
            "--sweep-page",
            type=FileName(),
            metavar="FILE",
            group=SWEEP,
            help="Write a page (.html) too, where a click shows a picture large and the command that makes it.",
        ),
        option(
            "--sweep-limit",
            type=click.IntRange(1, 100_000),
            metavar="N",
            group=SWEEP,
            help=f"Refuse a sweep of more pictures than that.  [default: {_MOST_PICTURES}]",
        ),
    )(command)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line says of a sweep and its files."""

    texts: Sequence[str]
    output: str | None
    folder: str | None
    page: str | None
    realism: str | None
    limit: int | None
    format: str | None
    on_exists: str
    dry_run: bool

    @property
    def most(self) -> int:
        """How many pictures it may make."""
        return _MOST_PICTURES if self.limit is None else self.limit

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Wanted:
        """By the options of `sdedit run`."""
        same = {name: given[name] for name in ("output", "format", "on_exists", "dry_run")}
        own = {name: given[f"sweep_{name}"] for name in ("page", "realism", "limit")}
        return cls(texts=given["sweep"], folder=given["sweep_dir"], **same, **own)


def refuse_strays(wanted: Wanted, of_one: Sequence[str]) -> None:
    """Raises UsageError for options of a sweep without one, and in a sweep for those that are for one picture at a time
    (`of_one`) or of no use."""
    if not wanted.texts:
        given = {
            "--sweep-dir": wanted.folder,
            "--sweep-page": wanted.page,
            "--sweep-realism": wanted.realism,
            "--sweep-limit": wanted.limit,
        }
        stray = next((flag for flag, value in given.items() if value), None)
        if stray:
            raise UsageError(f"{stray} is for a sweep; give --sweep OPTION=VALUE,VALUE,... too")
        return
    if wanted.output == "-":
        raise UsageError("-o - takes one picture, and a sweep writes a sheet; name a file")
    if of_one:
        raise UsageError(f"{of_one[0]} is for single pictures; leave it out of a sweep")
    if wanted.format and not wanted.folder:
        raise UsageError("--format is for the single pictures of --sweep-dir, and the sheet is a PNG; give that too")
    if wanted.folder and wanted.on_exists == "skip":
        raise UsageError("--on-exists skip would leave holes in the sheet; choose another policy or folder")
    if wanted.page is not None and not wanted.page.lower().endswith(".html"):
        raise UsageError(f"--sweep-page {shortened(wanted.page)}: expected a name that ends in .html")
