"""What `sdedit batch SOURCE` names: a folder, a list of jobs, a glob pattern, or one picture."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import JobFileError, UsageError, shortened
from ..pictures.source import check_no_pipe
from .folders import Search, pictures_of
from .garbage import uncollected
from .json_lines import read_json_lines
from .patterns import is_pattern
from .rows import Row, Source
from .tables import read_csv
from .toml_jobs import read_toml_jobs

_LISTS: Mapping[str, Callable[[str, Path | None], Source]] = {
    ".csv": lambda path, _: read_csv(path),
    ".tsv": lambda path, _: read_csv(path),
    ".jsonl": lambda path, _: read_json_lines(path),
    ".ndjson": lambda path, _: read_json_lines(path),
    ".toml": read_toml_jobs,
}
_NEAR_LISTS = frozenset((".json", ".yaml", ".yml", ".txt", ".xls", ".xlsx", ".ods", ".xml"))


@uncollected()
def rows_of(
    source: str,
    *,
    recursive: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    leave_out: Path | None = None,
) -> Source:
    """The rows of a source, in natural order for folders and patterns, in its own for a list.

    `include` and `exclude` are glob patterns on names within the source; `leave_out` is a folder of results. A folder
    is one whatever its name ends in. Raises JobFileError for a list or folder that cannot be read, PictureError for a
    pipe in the place of a picture, UsageError where nothing is found, or where something is to be chosen of a list or
    of one picture, which say themselves what they mean.
    """
    ending = os.path.splitext(source)[1].lower()
    search = Search(recursive, include, exclude, leave_out)
    if os.path.isdir(source) or is_pattern(source):
        return _pictures(source, search)
    if ending in _NEAR_LISTS:
        raise JobFileError(f"{shortened(source)}: is no list that is read; expected {', '.join(_LISTS)}, or a folder")
    is_list = ending in _LISTS
    if not is_list and not os.path.lexists(source):
        raise JobFileError(f"{shortened(source)}: no such file or folder")
    if not is_list:
        check_no_pipe(source)
    if recursive or include or exclude:
        flag = "--recursive" if recursive else "--include" if include else "--exclude"
        what = "says itself which it means" if is_list else "is one picture; leave it out"
        raise UsageError(f"{flag} chooses pictures of a folder, and {shortened(source)} {what}")
    return _LISTS[ending](source, leave_out) if is_list else _pictures(source, search)


def _pictures(source: str, search: Search) -> Source:
    found = pictures_of(source, search)
    rows = [Row(path, name) for path, name in zip(found.paths(), found.names, strict=True)]
    # From the top on: a name alone would leave out readable ones that lie deeper, too.
    unread = [
        replace(row, problem=f"{row.problem} with --exclude '/{glob.escape(row.name)}'") for row in found.unseen.unread
    ]
    unseen = replace(found.unseen, unread=tuple(unread))
    return Source(rows, Path(found.folder), notes=found.notes, unseen=unseen)
