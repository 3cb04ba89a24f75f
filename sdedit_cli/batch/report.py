"""What a report tells of a batch: a line for each output, whichever way the batch ended."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..options import fields
from .freshness import NEW
from .journal import Known
from .request import Request
from .rows import LostRow
from .survey import Choice, Item

FAILED, STALE, LEFT, MADE, UNCHANGED = "failed", "stale", "left", "made", "unchanged"
STATES = (FAILED, STALE, MADE, LEFT, UNCHANGED)
"""In the order in which people want to see them."""

_MOST_TEXT = 4000  # a prompt may be longer than anybody reads
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ALWAYS = ("strength", "steps", "cfg_scale", "sampler")
_APART = ("prompt", "negative_prompt", "seed", "count", "model", *_ALWAYS)


@dataclass(frozen=True, slots=True)
class Line:
    """One output: how it ended (one of STATES), with the word of a failure and the reason for people.

    `source` and `output` are paths, '' where the job names none; `name` is what the output is called within its folder.
    `settings` are pairs of words. `seconds` is how long it took this time.
    """

    state: str
    name: str
    source: str = ""
    output: str = ""
    word: str = ""
    reason: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A batch: the folder of its outputs, and its lines in the order of its jobs. `checked`: nothing was to be made."""

    folder: Path
    lines: tuple[Line, ...]
    checked: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """How many lines there are of each state that has any, in the order of STATES."""
        states = [line.state for line in self.lines]
        return {state: states.count(state) for state in STATES if state in states}


def of_check(folder: Path, items: Sequence[Item], failures: Sequence[LostRow]) -> Report:
    """What a check has found."""
    lines = [_line(item, UNCHANGED if item.verdict.fresh else STALE, reason=item.verdict.reason) for item in items]
    return Report(folder, (*map(_of_row, failures), *lines), checked=True)


def of_run(
    folder: Path,
    items: Sequence[Item],
    failures: Sequence[LostRow],
    choice: Choice,
    before: Mapping[str, Known],
    known: Mapping[str, Known],
) -> Report:
    """What a run has done so far: `before` it and now the journals knew this. What it has not come to is left."""
    fresh = {item.output for item in choice.fresh}
    kept = {item.output: problem for item, problem in choice.kept}
    lines: list[Line] = []
    for item in items:
        now = known.get(item.output)
        last = now.last if now and now is not before.get(item.output) else None
        if item.output in kept:
            lines.append(_line(item, FAILED, word=kept[item.output].word, reason=str(kept[item.output])))
        elif item.output in fresh:
            lines.append(_line(item, UNCHANGED))
        elif last and last.event == "done":
            again = "" if item.verdict.reason in ("", NEW) else f"made anew: {item.verdict.reason}"
            lines.append(_line(item, MADE, reason=again, seconds=last.seconds))
        elif last and last.event == "failed":
            lines.append(_line(item, FAILED, word=last.word, reason=last.error))
        else:
            lines.append(_line(item, LEFT, reason=item.verdict.reason))
    return Report(folder, (*map(_of_row, failures), *lines))


def _of_row(lost: LostRow) -> Line:
    row, problem = lost.row, lost.problem
    return Line(FAILED, row.name if row.input else row.place, row.input, word=problem.word, reason=str(problem))


def _line(item: Item, state: str, *, word: str = "", reason: str = "", seconds: float = 0.0) -> Line:
    edit = item.job.request.edit
    return Line(
        state,
        item.output,
        item.job.source,
        str(item.target.path),
        word,
        reason,
        edit.prompt,
        edit.negative_prompt,
        settings_of(item.job.request, item.target.seed),
        seconds,
    )


def settings_of(request: Request, seed: int) -> tuple[tuple[str, str], ...]:
    """What a picture is made with, besides its prompts: what everybody asks for, then all that is not as usual."""
    edit, known = request.edit, {field.name: field for field in fields()}
    usual = {"steps": edit.extent().partition(" steps")[0], "sampler": edit.sampler or "the model's own"}
    pairs = [("model", request.model.name), ("seed", str(seed))]
    pairs += [(known[name].key, usual.get(name) or _text(getattr(edit, name))) for name in _ALWAYS]
    for field in known.values():
        value = getattr(edit, field.name)
        if field.name not in _APART and value not in (None, (), field.default):
            pairs.append((field.key, _text(field.dump(value), path=field.option.path)))
    return tuple(pairs)


def _text(value: Any, *, path: bool = False) -> str:
    """A value for people; of a path the last part."""
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item, path=path) for item in cast("Sequence[Any]", value))
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value).values()
        return ":".join(_text(part, path=path) for part in parts if part is not None)
    if isinstance(value, float):
        return f"{value:.15g}"
    return os.path.basename(str(value).rstrip("/" + os.sep)) if path else str(value)


def clean(text: str) -> str:
    """A text of anybody's as pages and XML can hold it: bounded, without control characters and halves of pairs."""
    shown = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."
    return _UNPRINTABLE.sub("\ufffd", shown)
