"""Which way of showing pictures a terminal has, by its environment alone: a question to it may never be answered."""

from __future__ import annotations

from collections.abc import Mapping

AUTO = "auto"
BLOCKS, KITTY, ITERM, SIXEL = "blocks", "kitty", "iterm", "sixel"
WAYS = (BLOCKS, KITTY, ITERM, SIXEL)

# (variable, what it begins with, way); the first that fits holds.
_TOLD_BY = (
    # What is between us and the terminal passes no pictures on, and terminals leave their variables in it.
    ("TMUX", "", BLOCKS),
    ("STY", "", BLOCKS),
    ("TERM", "screen", BLOCKS),
    ("TERM", "tmux", BLOCKS),
    ("TERM_PROGRAM", "WezTerm", ITERM),
    ("TERM_PROGRAM", "iTerm.app", ITERM),
    ("TERM_PROGRAM", "ghostty", KITTY),
    ("TERM_PROGRAM", "mintty", SIXEL),
    ("TERM_PROGRAM", "vscode", BLOCKS),
    ("LC_TERMINAL", "iTerm2", ITERM),
    ("KITTY_WINDOW_ID", "", KITTY),
    ("TERM", "xterm-kitty", KITTY),
    ("TERM", "xterm-ghostty", KITTY),
    ("TERM", "foot", SIXEL),
    ("TERM", "mlterm", SIXEL),
    ("TERM", "yaft", SIXEL),
)
_DEEP = ("truecolor", "24bit")


def way_of(environment: Mapping[str, str]) -> str:
    """The way in which this terminal shows pictures best, as far as it is known; half blocks are shown by all."""
    for variable, begins, way in _TOLD_BY:
        if environment.get(variable, "").startswith(begins) and environment.get(variable):
            return way
    return BLOCKS


def has_all_colours(environment: Mapping[str, str]) -> bool:
    """Whether the terminal shows 24-bit colours, and not the 256 of old."""
    return environment.get("COLORTERM", "") in _DEEP or environment.get("TERM", "").endswith("-direct")


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Whether the terminal moves no cursor."""
    return environment.get("TERM", "") in ("dumb", "unknown")
