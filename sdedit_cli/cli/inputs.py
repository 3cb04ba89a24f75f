"""The inputs of a command line, without those that cannot have been meant."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from ..batch.names import MARKS, RESULT
from ..batch.patterns import is_pattern
from ..batch.targets import STDIO, expand
from ..errors import UsageError, listed, shown
from .render import Reporter


def sources_of(inputs: Sequence[str], prompt: str, output: str | None, to: Reporter) -> list[str]:
    """The inputs that the words of a command line name, without an earlier run's own outputs, of which `to` is told.

    Raises UsageError for a word that is no file and reads like a prompt.
    """
    for word in inputs:
        _refuse_prompt(word, prompt, alone=len(inputs) == 1)
    outputs: dict[str, None] = {}
    for pattern in inputs:
        if is_pattern(pattern) and not any(mark in pattern for mark in MARKS):
            outputs |= dict.fromkeys(path for path in expand([pattern]) if RESULT.fullmatch(path))
    found = expand(inputs)
    if output is None:
        # A shell that expands patterns itself gives the outputs beside what they were made from.
        roots = {os.path.splitext(path)[0] for path in found}
        outputs |= {path: None for path in found if (made := RESULT.fullmatch(path)) and made[1] in roots}
    kept = [path for path in found if path not in outputs]
    if not kept:
        raise UsageError(f"all inputs are results of earlier runs ({shown(found[0])}); name one by itself")
    if left_out := [path for path in found if path in outputs]:
        to.note(f"left out are results of earlier runs: {listed(left_out)}; to edit one, name it by itself")
    return kept


def _refuse_prompt(word: str, prompt: str, *, alone: bool) -> None:
    if word == STDIO or glob.has_magic(word) or os.path.lexists(word) or any(mark in word for mark in "/\\."):
        return
    if " " in word.strip() and not prompt:
        raise UsageError(f"'{shown(word)}' is no file; did you mean -p '{shown(word)}'?")
    if " " not in word and not alone and prompt:
        raise UsageError(f"'{shown(word)}' is no file; did you mean -p '{shown(prompt)} {shown(word)}', in quotes?")
    if not prompt:
        raise UsageError(f"'{shown(word)}' is no file; did you mean -p '{shown(word)}'?")
