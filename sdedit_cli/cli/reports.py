"""What a batch leaves for those who did not watch it: reports, and annotations where GitHub runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import signals
from ..batch.report import FAILED, STALE, Line, Report, clean
from ..batch.worker import Reporter
from ..disk.leftovers import clear_leftovers
from ..errors import OutputError
from .render import on_github

_LEVELS = {FAILED: "error", STALE: "warning"}


def report_paths(given: Mapping[str, Any]) -> list[Path]:
    """Where the options of a command want reports."""
    return [Path(os.path.expanduser(name)) for name in given["report"]]


@contextmanager
def reported(
    given: Mapping[str, Any], to: Reporter, tell: Callable[[], Report], *, quietly: bool
) -> Generator[None, None, None]:
    """Whichever way the block is left, what `tell` says then is written to the reports and, unless `quietly` (programs
    read stdout), annotated. Raises OutputError where a report cannot be written and nothing worse happened."""
    try:
        yield
    finally:
        paths, annotated = report_paths(given), on_github() and not quietly
        if paths or annotated:
            report = tell()
            if annotated:
                annotate(report.lines)
            _write_all(paths, report, to)


def _write_all(paths: Sequence[Path], report: Report, to: Reporter) -> None:
    from ..batch.report_files import write_report

    ending = sys.exc_info()[1] is not None
    for path in paths:
        for name in clear_leftovers(path.parent):
            to.warn(f"{path.with_name(name)}: removed; a run that was killed left it unfinished")
        to.note(f"report: {path}")
        try:
            write_report(path, report)
        except OutputError as problem:
            if not ending:
                raise
            to.error(str(problem))
    signals.check()


def annotate(lines: Sequence[Line]) -> None:
    """Writes the commands by which GitHub's runner shows failures and stale outputs beside the files, to stderr."""
    told = [annotation(line) for line in lines if line.state in _LEVELS]
    if told and sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]  (so when started with it closed)
        print("\n".join(told), file=sys.stderr, flush=True)


def annotation(line: Line) -> str:
    """The command for one line; whatever its texts hold, it is one."""
    file = _in_workspace(line.source)
    title = f"title=sdedit {_property(line.word or line.state)}"
    place = f"file={_property(file)},{title}" if file else title
    text = f"{line.output}: {line.reason}" if line.output and line.output not in line.reason else line.reason
    return f"::{_LEVELS[line.state]} {place}::{_data(text)}"


def _in_workspace(path: str) -> str:
    """A path as the repository has it."""
    root = os.environ.get("GITHUB_WORKSPACE")
    if not path or not root:
        return path
    try:
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    except ValueError:  # on another drive, or no path at all
        return path
    return path if inside.split(os.sep)[0] == os.pardir else inside.replace(os.sep, "/")


def _data(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
