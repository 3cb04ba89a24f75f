"""The files that reports are written to: what may be replaced, and writing them whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import signals
from ..disk.checks import check_folder, check_name
from ..disk.whole import staged
from ..errors import OutputError, UsageError, shortened
from ..signals import Stop
from . import report_html, report_junit
from .report import Report


@dataclass(frozen=True, slots=True)
class _Kind:
    pieces: Callable[[Report, str], Iterator[bytes]]
    mark: bytes
    """What files of this kind begin with."""


_KINDS = {
    ".html": _Kind(report_html.pieces, report_html.MARK),
    ".xml": _Kind(report_junit.pieces, report_junit.MARK),
}


def check_reports(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Raises UsageError or OutputError unless all of these can be written. A report of ours may be replaced, and with
    `overwrite` any file."""
    for at, path in enumerate(paths):
        kind = _KINDS.get(path.suffix.lower())
        if kind is None:
            raise UsageError(f"--report {shortened(path)}: expected a name that ends in .html or .xml (JUnit)")
        if os.path.realpath(path) in map(os.path.realpath, paths[:at]):
            raise UsageError(f"--report {shortened(path)}: is named twice")
        check_name(path)
        check_folder(path.parent, "--report")
        if os.path.lexists(path):
            _check_old(path, kind, overwrite)


def _check_old(path: Path, kind: _Kind, overwrite: bool) -> None:
    if path.exists() and not path.is_file():
        raise OutputError(f"{shortened(path)}: is no file, so no report can be written there; choose another name")
    try:
        with path.open("rb") as file:
            ours = file.read(len(kind.mark)) in (kind.mark, b"")
    except FileNotFoundError:
        return  # a link to nothing yet
    except OSError as problem:
        raise OutputError(f"{shortened(path)}: cannot be read ({problem.strerror}), so it is left as it is") from None
    if not ours and not overwrite:
        raise OutputError(
            f"{shortened(path)}: is there and no report of ours, so it is left as it is; "
            "move it away, or replace it with --on-exists overwrite"
        )


def write_report(path: Path, report: Report) -> None:
    """Writes a report, in the format that its ending says. Raises OutputError.

    After the signal that ended a run it is written too, and begun anew when that comes in the middle; one more ends it.
    """
    kind = _KINDS[path.suffix.lower()]
    stopped, placed = signals.came() is not None, list[bool]()
    try:
        with staged(path, replace=True, placed=lambda: placed.append(True)) as stage, stage.open() as file:
            for piece in kind.pieces(report, os.path.dirname(os.path.realpath(path))):
                file.write(piece)
    except Stop:
        if not placed:
            if stopped:
                raise
            write_report(path, report)
