"""Which of several patterns for a module counts, and that many of them cost no more than they are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.adapters.deltas import Misfit
from sdedit_cli.adapters.patterns import Patterns

_NAMES = st.lists(st.sampled_from(["a", "b", "to_q", ".", "text_model.", "text_model"]), max_size=6).map("".join)
_PATTERNS = st.builds(
    lambda begin, name, end: f"{begin}{name}{end}",
    st.sampled_from(["", "^", "^^", "text_model."]),
    st.one_of(_NAMES, _NAMES.map(lambda name: name.replace(".", "\\."))),
    st.sampled_from(["", "$", "", "", ".*", "$$", "\\"]),
)


def first_that_fits(patterns: Mapping[str, int], name: str) -> int | str | None:
    """As it is said: one pattern after the other. The value, or the pattern that is refused."""
    for pattern, value in patterns.items():
        plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if set(plain) & set("^$*+?()[]{}|\\"):
            return pattern
        is_whole = plain in (name, name.removeprefix("text_model."))
        if is_whole or (not pattern.startswith("^") and name.endswith("." + plain)):
            return value
    return None


@given(st.lists(_PATTERNS, max_size=8), st.lists(_NAMES, min_size=1, max_size=8))
def test_the_first_pattern_that_fits_counts(patterns: list[str], names: list[str]) -> None:
    values = {pattern: place for place, pattern in enumerate(patterns)}
    looked_up = Patterns("alpha_pattern", values)
    for name in names:
        expected = first_that_fits(values, name)
        if isinstance(expected, str):
            with pytest.raises(Misfit) as refused:
                looked_up.get(name, None)
            assert str(refused.value).startswith(f"alpha_pattern has '{expected}'; expected names of modules")
        else:
            assert looked_up.get(name, None) == expected


def test_as_many_patterns_as_modules_are_looked_up_before_the_suite_ends() -> None:
    patterns = Patterns("rank_pattern", {f"blocks.{n}.to_q": n for n in range(100_000)})
    assert all(patterns.get(f"down.blocks.{n}.to_q", None) == n for n in range(100_000))
