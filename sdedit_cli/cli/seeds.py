"""Seeds that nobody names."""

from __future__ import annotations


def new_seed() -> int:
    """A seed of its own for a run, short enough to be typed again."""
    import secrets  # here, as it takes as long to import as click's parser

    return secrets.randbelow(2**32)
