"""Results on the terminal, as JSON, and as Markdown.

A file of results has a section a topic, with the command, versions and load average of its own run: running some topics
again replaces their sections and leaves the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import bars
from .rows import Row, beside

SCHEMA = "sdedit.bench/1"
RATES = "rates"


@dataclass(frozen=True)
class Section:
    """A topic as it was run. `limits`: FLOP/s of this machine by dtype, measured in that run; `others`: the share of
    all cores that other programs took meanwhile."""

    topic: str
    about: str
    rows: list[Row]
    command: str = ""
    load: str = ""
    seconds: float = 0.0
    others: float | None = None
    limits: dict[str, float] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "rows": [row.as_json() for row in self.rows]}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Section:
        return cls(**{**said, "rows": [Row.from_json(row) for row in said["rows"]]})


def read(path: Path) -> dict[str, Section]:
    """The sections of a JSON file by topic; none where there is no file yet."""
    if not path.exists():
        return {}
    said = json.loads(path.read_text(encoding="utf-8"))
    return {section["topic"]: Section.from_json(section) for section in said["topics"]}


def write(sections: dict[str, Section], path: Path) -> None:
    """`path` (.json), and the same beside it as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"schema": SCHEMA, "topics": [section.as_json() for section in sections.values()]}
    path.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(path.stem, list(sections.values())), encoding="utf-8")


def markdown(name: str, sections: list[Section]) -> str:
    """A page: what was measured on, then a table for each topic."""
    if not sections:
        return f"# {name}\n"
    facts = sections[-1].machine
    lines = [f"# {name}", "", *(f"- {fact}: {value}" for fact, value in facts.items()), ""]
    lines += ["The limit of a row is the best rate under `rates` in its precision, measured in the same run.", ""]
    if asked := bars.lines({section.topic: section.rows for section in sections}):
        lines += ["## What is asked for", "", *asked, ""]
    for section in sections:
        other = {key: value for key, value in section.machine.items() if facts.get(key) != value}
        lines += [f"## {section.topic}", "", section.about, ""]
        busy = "" if section.others is None else f", other programs took {section.others:.0%} of the cores"
        lines += [f"`{section.command}`: {section.seconds:.0f} s, load average before {section.load}{busy}"]
        lines += [f"({', '.join(f'{key} {value}' for key, value in other.items())})"] if other else []
        lines += ["", table(section.rows, section.limits), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(rows: list[Row], limits: dict[str, float]) -> str:
    """A Markdown table; a column that would be empty is left out."""
    heads = ("what", "program", "median", "least to most", "of ours", "GFLOP/s", "of the limit", "also")
    cells = [_cells(rows, row, limits) for row in rows]
    kept = [at for at, _ in enumerate(heads) if any(line[at] for line in cells)]
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join("| " + " | ".join(line[at] for at in kept) + " |" for line in lines)


def _cells(rows: list[Row], row: Row, limits: dict[str, float]) -> list[str]:
    ratio, share = beside(rows, row), row.share(limits)
    also = ", ".join(f"{name} {value if isinstance(value, str) else number(value)}" for name, value in row.also.items())
    scale, unit = (1000, "ms") if row.unit == "s" and abs(row.median) < 0.1 else (1, row.unit)
    median, least, most = (number(scale * value) for value in (row.median, min(row.values), max(row.values)))
    return [
        row.what,
        row.program,
        f"{median} {unit}".strip(),
        f"{least} to {most}" if len(row.values) > 1 else "",
        "" if ratio is None else f"{ratio:.2f} x",
        "" if row.rate is None else f"{row.rate / 1e9:.0f}",
        "" if share is None else f"{share:.0%}",
        also,
    ]


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.1e}"
