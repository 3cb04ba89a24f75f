"""Who tells people what happens: bars where they watch, lines elsewhere."""

from __future__ import annotations

import sys

from .render import Reporter


def reporter(verbosity: int) -> Reporter:
    """Bars when people watch, lines otherwise."""
    watched = verbosity >= 0 and sys.stderr is not None and sys.stderr.isatty()
    if not watched:
        return Reporter(verbosity)
    from .bars import Bars  # only a terminal has a use for rich

    return Bars(verbosity)
