"""Property tests that could pass without a check: each example says what it ended in, and the ends are counted."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

_counts: Counter[str] = Counter()


def reached(end: str) -> None:
    """Notes what the example at hand ended in."""
    _counts[end] += 1


def reaches(**least: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Fails a property test (outside `@given`) whose examples ended in one of these ends fewer times than said."""

    def around(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            _counts.clear()
            test(*args, **kwargs)
            short = {end: _counts[end] for end, count in least.items() if _counts[end] < count}
            assert not short, f"too few examples ended in {short}; wanted at least {least} of {_counts.total()}"

        return counted

    return around
