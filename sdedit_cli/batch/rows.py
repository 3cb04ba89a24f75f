"""The rows of a source: each a picture to edit, with what the source says of it.

A record (a line of CSV or JSON, a table of TOML) has `input` (or another of INPUT_WORDS), may have `output` (a name or
a template), and any option of an edit by its name, with - or _. Here alone is known that the values of CSV are text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import JobFileError, SdeditError, UsageError, did_you_mean, quoted, shortened, shown
from ..options import Field, Layer, field_named, fields, layer_of

INPUT, OUTPUT = "input", "output"
INPUT_WORDS = (INPUT, "file", "image", "path", "filename")
MAX_ROWS = 1_000_000
_ITEMS = re.compile(r"[|\r\n]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One picture to edit as a source names it, before any layer is applied.

    `input` is its path as it can be opened, `name` that within the source, with its folders ('a/b/pic.png' on every
    system; the last part alone of what lies outside): outputs, seeds and the journal go by it. `values` are options as
    given, by their spelling in TOML; `layer_of_row` reads them. `place` is for messages ('jobs.csv, line 12'; '' in
    folders). `variant` tells apart the rows that a matrix makes of one job ('strength-0.4_seed-2'), and may stand in
    the name of a file.
    A row with a `problem` (a whole message) is one failed job; where it names no input, that is '' and the name empty.
    """

    input: str
    name: str
    values: Mapping[str, object] = field(default_factory=dict[str, object])
    place: str = ""
    output: str | None = None
    problem: str = ""
    variant: str = ""
    folder: str = ""  # of the list: relative paths among the values may count from it
    text: bool = False  # whether the values are text, to be parsed


class LostRow(NamedTuple):
    """A row that cannot be meant, its number among all, and what speaks against it."""

    number: int
    row: Row
    problem: SdeditError

    @property
    def place(self) -> str:
        """What people call it."""
        return self.row.place or self.row.input


@dataclass(frozen=True, slots=True)
class Unseen:
    """Folders of a source in which there may be pictures that nobody saw: those that cannot be read, each as a row with
    its problem, which is one failed job, and links to folders, which are not followed."""

    unread: tuple[Row, ...] = ()
    linked: tuple[str, ...] = ()

    @classmethod
    def of_all(cls, several: Sequence[Unseen]) -> Unseen:
        """Those of several searches, each once."""
        unread = {row.input: row for one in several for row in one.unread}
        linked = dict.fromkeys(link for one in several for link in one.linked)
        return cls(tuple(unread.values()), tuple(linked))


NOTHING = Unseen()


@dataclass(frozen=True, slots=True)
class Source:
    """All rows of a source in their order, what applies below each of them, and what people are to know.

    `root` is the folder that names and relative inputs count from.
    """

    rows: list[Row]
    root: Path
    defaults: Layer = field(default_factory=lambda: Layer("", {}))
    notes: tuple[str, ...] = ()
    unseen: Unseen = NOTHING


def row_of(record: Mapping[str, object], place: str, folder: str, *, text: bool = False) -> Row:
    """The row of a record; what cannot be meant of its form becomes its problem, and the values are not looked at.

    None (null in JSON) means not given. `folder` is that of the list, '' for the current one.
    """
    given, problem = _sorted_out(record)
    source, output = given.pop(INPUT, None), given.pop(OUTPUT, None)
    misnamed = _input_problem(source)
    problem = problem or misnamed or _output_problem(output)
    path, name = ("", "") if misnamed else (os.path.join(folder, str(source)), name_in(folder, str(source)))
    if problem:
        return Row(path, name, place=place, problem=f"{place}: {problem}")
    named = None if output is None else str(output)
    return Row(path, name, given, place, named, folder=folder, text=text)


def word_of(key: str) -> str:
    """'input', 'output' or the spelling of an option in TOML for a key of a record. Raises UsageError."""
    word = known_word(key)
    if word is None:
        raise UsageError(_unknown(key))
    return word


def known_word(key: str) -> str | None:
    """As `word_of`; None for a key that nothing is called by."""
    return _words().get(key.replace("_", "-"))


def _unknown(key: str) -> str:
    hint = _SAID_ELSEWHERE.get(key.replace("_", "-")) or did_you_mean(key, tuple(_words()))
    return f"no option is called '{shown(key)}'{hint}"


_SAID_ELSEWHERE = {
    "format": f"; the ending of '{OUTPUT}' says it, or --format for all jobs",
    "on-exists": "; --on-exists is for all jobs",
}


@cache
def _words() -> dict[str, str]:
    return {OUTPUT: OUTPUT} | dict.fromkeys(INPUT_WORDS, INPUT) | {option.key: option.key for option in fields()}


def _sorted_out(record: Mapping[str, object]) -> tuple[dict[str, object], str]:
    """The values by their words, and what is wrong with the keys."""
    given: dict[str, object] = {}
    problem = ""
    for key, value in record.items():
        word = known_word(key)
        if word is None:
            problem = problem or _unknown(key)  # once: a record may have any number of them, and near words take time
            continue
        if word in given and not problem:
            problem = f"gives {word} twice ('{shown(key)}' is another name of it)"
        if value is not None:
            given[word] = value
    return given, problem


def _input_problem(source: object) -> str:
    if source is None:
        return f"names no {INPUT}"
    if not isinstance(source, str):
        return f"{INPUT} is {quoted(source)}; expected the path of a picture"
    if source == "-":
        return f"{INPUT} is '-' (stdin), which a list cannot name; expected the path of a picture"
    try:
        known = bool(os.fsencode(source)) and "\0" not in source
    except UnicodeError:
        known = False
    if not known or os.path.basename(os.path.normpath(source)) in ("", ".", ".."):
        return f"{INPUT} is '{shown(source)}', which no picture can be called"
    return ""


def _output_problem(output: object) -> str:
    if output is None or (isinstance(output, str) and output not in ("", "-")):
        return ""
    return f"{OUTPUT} is {quoted(output)}; expected a name for a file, or a template such as '{{stem}}-{{seed}}.png'"


def output_of(value: object, label: str) -> str | None:
    """The output that a list gives for all its jobs. Raises JobFileError."""
    if problem := _output_problem(value):
        raise JobFileError(f"{label}: {problem}")
    return str(value) if value else None


def name_in(folder: str, path: str) -> str:
    """The name within a folder of a path that counts from it; the last part alone for what lies outside."""
    inside = os.path.normpath(path)
    if os.path.isabs(inside):
        root = os.path.join(os.path.abspath(folder), "")
        inside = inside.removeprefix(root) if inside.startswith(root) else os.path.basename(inside)
    elif inside.split(os.sep)[0] == os.pardir:
        inside = os.path.basename(inside)
    return inside if os.sep == "/" else inside.replace(os.sep, "/")


def layer_of_row(row: Row) -> Layer:
    """The options of a row, read and checked. Raises JobFileError with its place, and with a row's problem.

    In CSV, the items of a repeated option (lora, embedding) stand between '|' or on a line each, and all else is
    written as in the environment; JSON and TOML have values of their own. A relative path that an option names is that
    of a file beside the list where one lies there, and otherwise means what it does on the command line.
    """
    if row.problem:
        raise JobFileError(row.problem)
    read = _from_text if row.text else Field.fit
    return beside(layer_of(row.values, row.place, JobFileError, read=read), row.folder)


def _from_text(option: Field, text: str, label: str) -> Any:
    if option.repeated:
        text = "\n".join(item.strip() for item in _ITEMS.split(text) if item.strip())
    return option.parse(text, label)


def beside(layer: Layer, folder: str) -> Layer:
    """The layer with the relative paths in it that lie in `folder` as paths that can be opened."""
    options = {name: field_named(name, "").option for name in layer.values} if folder else {}
    paths = [name for name, option in options.items() if option.path and layer.values[name] not in option.words]
    return replace(layer, values={**layer.values, **{name: _beside(layer.values[name], folder) for name in paths}})


def _beside(value: Any, folder: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_beside(item, folder) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if value is not None and not isinstance(value, str):
        return replace(value, path=_beside(value.path, folder))
    path = os.path.join(folder, value or "")
    return path if value and not os.path.isabs(value) and os.path.exists(path) else value


def no_rows(label: str) -> UsageError:
    """The error of a list without jobs."""
    return UsageError(f"{shortened(label)}: names no picture (0 inputs)")


def too_many(label: str, most: int, hint: str) -> JobFileError:
    """The error of a list of too many jobs."""
    return JobFileError(f"{shortened(label)}: has more than {most:,} jobs; {hint}")
