"""How an editing command tells what it does: lines and bars for people, events for programs, pictures on stdout."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from .details import showing_details
from .flags import REPORTING, F, option, options
from .render import Reporter, show_warnings

if TYPE_CHECKING:
    from ..batch.events import Events


def reporting_options(command: F) -> F:
    """Adds the options that every editing command has for how it tells what it does."""
    return options(
        option(
            "--json", "as_json", is_flag=True, group=REPORTING, help="Write events to stdout, one JSON object a line."
        ),
        option("-q", "--quiet", is_flag=True, group=REPORTING, help="Say nothing but errors."),
        option("-v", "--verbose", is_flag=True, group=REPORTING, help="Say more."),
        option("--debug", is_flag=True, group=REPORTING, help="Show tracebacks and all warnings."),
    )(command)


def reporter(verbosity: int) -> Reporter:
    """Who tells people what happens: bars where they watch, lines elsewhere."""
    if verbosity < 0 or sys.stderr is None or not sys.stderr.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        return Reporter(verbosity)
    from .bars import Bars  # only a terminal has a use for rich

    return Bars(verbosity)


@contextmanager
def channels(
    *, as_json: bool, to_stdout: bool = False, quiet: bool, verbose: bool, debug: bool
) -> Generator[tuple[Reporter, Events, BinaryIO | None], None, None]:
    """Who tells people, what tells programs, and stdout where it is for our own bytes alone (events, or with
    `to_stdout` a picture). However the block is left, `end` is told, and the terminal is as it was."""
    to = reporter(-1 if quiet else int(verbose))
    show_warnings(to, debug=debug)
    try:
        with _stdout(claim=as_json or to_stdout) as stdout:
            from ..batch.events import Events, ended

            events = Events(stdout if as_json else None)
            with showing_details(to), _told_when_nobody_reads(to), ended(events):
                yield to, events, stdout
    finally:
        to.close()


@contextmanager
def _told_when_nobody_reads(to: Reporter) -> Generator[None, None, None]:
    """Within it, a reader of stdout who goes away is told of."""
    from ..batch.events import ReaderGone

    try:
        yield
    except ReaderGone:
        to.error("stdout was closed by who read it, so the run ends here; finished pictures are kept")
        raise


@contextmanager
def _stdout(*, claim: bool) -> Generator[BinaryIO | None, None, None]:
    """The real stdout where it is claimed for our own bytes, else None."""
    if not claim:
        yield None
        return
    from ..batch.events import claimed_stdout

    with claimed_stdout() as stream:
        yield stream
