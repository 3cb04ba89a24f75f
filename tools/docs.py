"""Files that are derived from the declarations; `python -m tools.docs` rewrites them in a checkout."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sdedit_cli.cli.flags import default_text
from sdedit_cli.cli.main import command
from sdedit_cli.options import GROUPS, Field, fields
from tools.preset_schema import preset_schema

ROOT = Path(__file__).parents[1]

_INTRODUCTION = """\
# Options of an edit

This page is generated from `sdedit_cli/options/` by `python -m tools.docs`.

Every option can be given in these places; later ones win: the default, what a model has as its own (the built-in one
a strength of 0.75, 25 steps and a guidance scale of 5), the user config (the file that `SDEDIT_CONFIG` names, or
`config.toml` in the platform's folder for configs), a preset (`--preset`), a picture (`--like`, which sets no files, no
network, no machine and no safety), a job of a list (`sdedit batch`), the environment, the command line. What belongs to
one command alone, such as `-o` and `--sweep`, is in its `--help`, [command-line.md](command-line.md) and
[batch.md](batch.md). In TOML the key is the flag without its dashes; the
variable is `SDEDIT_` and the flag in capitals, with `_` for each `-` (but {others}). One
that is called so and that nothing reads is reported.
"""


def options_page() -> str:
    """docs/options.md: one table a group."""
    others = [f"`{field.variable}` for `{field.flag}`" for field in fields() if field.option.variable]
    parts = [_INTRODUCTION.format(others=" and ".join(others))]
    for group in GROUPS:
        rows = [_row(field) for field in fields() if field.option.group == group]
        parts.append(
            "\n".join([f"## {group}\n", "| option | values | default | meaning |", "|---|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _row(field: Field) -> str:
    short = f"`{field.option.short}`, " if field.option.short else ""
    default = default_text(field).removeprefix("default: ") or ("off" if field.is_switch else "none")
    cells = [f"{short}`{field.flag}`", field.expected, default, field.option.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def snapshots() -> dict[str, str]:
    """For each command every option and argument, a line each, for review when they change."""
    ctx = click.Context(command, info_name="sdedit")
    found = {"sdedit": _snapshot(command, "sdedit")}
    for name in command.list_commands(ctx):
        child = command.get_command(ctx, name)
        assert child is not None
        found[name] = _snapshot(child, f"sdedit {name}")
    return found


def _snapshot(node: click.Command, path: str) -> str:
    ctx = click.Context(node, info_name=path)
    lines = [f"{path}: {_described(param, ctx)}\n" for param in node.get_params(ctx)]
    if isinstance(node, click.Group) and node is not command:
        children = [(name, node.get_command(ctx, name)) for name in node.list_commands(ctx)]
        lines += [_snapshot(child, f"{path} {name}") for name, child in children if child is not None]
    return "".join(lines)


def _described(param: click.Parameter, ctx: click.Context) -> str:
    if not isinstance(param, click.Option):
        return param.human_readable_name
    names = "/".join([",".join(param.opts), *param.secondary_opts])
    return f"{names} ({'flag' if param.is_flag else param.make_metavar(ctx)}) {param.help}"


def pages() -> dict[Path, str]:
    """The derived files of a checkout and what they should hold."""
    return {
        ROOT / "docs" / "options.md": options_page(),
        ROOT / "presets" / "schema.json": json.dumps(preset_schema(), indent=2) + "\n",
        **{ROOT / "tests" / "cli" / "options" / f"{name}.txt": text for name, text in snapshots().items()},
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
