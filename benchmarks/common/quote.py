"""What the README quotes of a file of results: works that users wait for, by program."""

from __future__ import annotations

from pathlib import Path

from .programs import OPENVINO, ORACLE, OURS_ON_OPENVINO
from .report import Section, number
from .rows import OURS

BEGIN, END = "<!-- of benchmarks/results: python -m benchmarks --quote -->", "<!-- end -->"
PROGRAMS = (OURS, OURS_ON_OPENVINO, ORACLE, OPENVINO)
WORKS = {
    "`sdedit --help`; import of the pipeline": ("startup", "answer: --help, import of the pipeline"),
    "a model ready": ("startup", "ready"),
    "first picture from a cold start (256 px, 1 step)": ("startup", "cold edit, 1 steps"),
    "a step at 512 px, bf16": ("cpu-bf16", "step, 512, bf16"),
    "decoding at 512 px, bf16": ("cpu-bf16", "decode, 512, bf16"),
    "a step at 512 px, fp32": ("cpu-fp32", "step, 512, fp32"),
    "a step at 256 px beside a busy core, bf16": ("cpu-bf16", "step beside a busy core, 256, bf16"),
    "a folder of 64 small pictures": ("folder", "64 pictures of 64 px, bf16"),
    "memory of an edit at 512 px, bf16": ("memory", "edit, 512, bf16"),
}


def quoted(sections: dict[str, Section]) -> str:
    """A table of the works that were measured; nothing where none was."""
    lines: list[str] = []
    for name, (topic, what) in WORKS.items():
        rows = {row.program: row for row in sections[topic].rows if row.what == what} if topic in sections else {}
        cells = [f"{number(rows[one].median)} {rows[one].unit}" if one in rows else "" for one in PROGRAMS]
        lines += [f"| {name} | {' | '.join(cells)} |"] if OURS in rows else []
    heads = [f"| | {' | '.join(PROGRAMS)} |", f"|{'---|' * (1 + len(PROGRAMS))}"]
    return "\n".join([*heads, *lines]) if lines else ""


def put(page: Path, sections: dict[str, Section]) -> None:
    """The table, between the page's two marks."""
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    page.write_text(f"{before}\n{quoted(sections)}\n{after}", encoding="utf-8")
