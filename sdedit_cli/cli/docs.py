"""Files that are derived from the declarations; `python -m sdedit_cli.cli.docs` rewrites them in a checkout."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..presets import json_schema
from ..spec import GROUPS, Field, fields
from .main import command
from .options import default_text

ROOT = Path(__file__).parents[2]

_INTRODUCTION = """\
# Options of an edit

This page is generated from `sdedit_cli/spec.py` by `python -m sdedit_cli.cli.docs`.

Every option can be given in six places; later ones win: the default, the user config (`config.toml` in the folder
that `SDEDIT_CONFIG` or the platform names), a preset (`--preset`), a picture (`--like`), the environment, the command
line. In TOML the key is the flag without its dashes; the variable is `SDEDIT_` and the flag in capitals, with `_` for
each `-`.
"""


def options_page() -> str:
    """docs/options.md: one table a group."""
    parts = [_INTRODUCTION]
    for group in GROUPS:
        rows = [_row(field) for field in fields() if field.option.group == group]
        parts.append(
            "\n".join([f"## {group}\n", "| option | values | default | meaning |", "|---|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _row(field: Field) -> str:
    short = f"`{field.option.short}`, " if field.option.short else ""
    default = default_text(field).removeprefix("default: ") or "none"
    default = "off" if field.kind == "bool" else default
    cells = [f"{short}`{field.flag}`", field.expected, default, field.option.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def snapshot() -> str:
    """Every option and argument of every command, a line each, for review when they change."""
    lines: list[str] = []
    _walk(command, "sdedit", lines)
    return "\n".join(lines) + "\n"


def _walk(node: click.Command, path: str, lines: list[str]) -> None:
    ctx = click.Context(node, info_name=path)
    for param in node.get_params(ctx):
        if isinstance(param, click.Option):
            names = "/".join([",".join(param.opts), *param.secondary_opts])
            values = "flag" if param.is_flag else param.make_metavar(ctx)
            lines.append(f"{path}: {names} ({values}) {param.help}")
        else:
            lines.append(f"{path}: {param.human_readable_name}")
    if isinstance(node, click.Group):
        for name in node.list_commands(ctx):
            child = node.get_command(ctx, name)
            assert child is not None
            _walk(child, f"{path} {name}", lines)


def pages() -> dict[Path, str]:
    """The derived files of a checkout and what they should hold."""
    return {
        ROOT / "docs" / "options.md": options_page(),
        ROOT / "presets" / "schema.json": json.dumps(json_schema(), indent=2) + "\n",
        ROOT / "tests" / "cli" / "options.txt": snapshot(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
