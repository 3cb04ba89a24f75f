"""`--preset` and `--save-preset`: settings from files, and into one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from ..errors import OutputError, UsageError, shown
from ..presets import (
    FAST,
    Entry,
    Preset,
    config_path,
    expanded,
    is_path,
    load_preset,
    own_folder,
    preset_paths,
    preset_text,
    shipped_folder,
    user_config,
)
from ..signals import settle
from .flags import FILES, F, option, options
from .paths import FileName
from .preset_tables import own_options, table_defaults
from .render import Reporter

if TYPE_CHECKING:
    from .layering import Layering


class PresetName(FileName):
    """A preset's name or file; the names are completed."""

    name = "preset"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = preset_paths(user_config(os.environ).preset_folders)
        found = [CompletionItem(word) for word in known if word.startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


def preset_options(command: F) -> F:
    """Adds the options that name presets; the command gets the presets themselves."""

    @wraps(command)
    def with_presets(*args: Any, presets: tuple[Preset, ...], fast: bool, **given: Any) -> Any:
        more = (load_preset(FAST, user_config(os.environ).preset_folders),) if fast else ()
        return command(*args, presets=(*presets, *more), **given)

    return options(
        option(
            "--preset",
            "presets",
            multiple=True,
            type=PresetName(),
            callback=_loaded,
            metavar="NAME|FILE",
            group="Edit",
            help="Take settings from a preset; later ones win. 'sdedit presets' lists them.",
        ),
        option(
            "--save-preset",
            type=FileName(),
            metavar="NAME|FILE",
            group=FILES,
            help="Write what this command line sets into a preset, one of your own or a .toml file, and edit nothing.",
        ),
        option(
            "--fast",
            is_flag=True,
            group="Speed",
            help="Take the settings of the preset 'fast', and say which: pictures near the exact ones, in less time.",
        ),
    )(cast("F", with_presets))


def _loaded(ctx: click.Context, param: click.Parameter, names: Sequence[str]) -> tuple[Preset, ...]:
    """The presets of those names. What their tables set for this command becomes its defaults.

    click comes here before it looks for the values of options that were not given.
    """
    if not names or ctx.resilient_parsing:
        return ()
    folders = user_config(os.environ).preset_folders
    presets = tuple(load_preset(name, folders) for name in names)
    ctx.default_map = table_defaults(str(ctx.info_name), presets)
    return presets


def save_preset(given: Mapping[str, Any], layers: Layering, to: Reporter) -> None:
    """Writes what the command line sets into the preset that `--save-preset` names.

    Raises OutputError, UsageError, and what speaks against the settings.
    """
    name, replace = given["save_preset"], given["on_exists"] == "overwrite"
    path = _target(name)
    layers.plain()
    _check(path, replace=replace)
    if own := next((one.name for one in given["presets"] if Path(os.path.realpath(path)) in one.files), None):
        raise UsageError(
            f"--save-preset {name}: the preset '{shown(own)}' is that file or begins with it, so that it would extend "
            f"itself; save it under another name, or change the file by hand"
        )
    extends = [_named_from(path, preset) for preset in given["presets"]]
    text = preset_text(layers.said, extends, _own_entries(click.get_current_context()))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise OutputError(f"{path}: a name given here is not valid UTF-8, which a preset cannot hold") from None
    from ..disk.whole import write_bytes

    write_bytes(path, data, replace=replace, placed=settle)
    to.note(f"wrote {path}, and edited nothing; use it with --preset {name}")
    if not is_path(name) and (shipped_folder() / path.name).is_file():
        to.note(f"it hides the preset '{name}' that comes with sdedit")


def _target(name: str) -> Path:
    if not is_path(name):
        return own_folder(config_path(os.environ)) / f"{name}.toml"
    if not name.endswith(".toml"):
        raise UsageError(
            f"--save-preset {name}: a preset's file ends in .toml; a name alone is one of your own presets"
        )
    return expanded(name)


def _check(path: Path, *, replace: bool) -> None:
    from ..disk.checks import check_folder, check_name

    check_name(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; --save-preset takes a name or a file")
    if os.path.lexists(path) and not replace:
        raise OutputError(f"{path}: exists already; --on-exists overwrite replaces it")
    check_folder(path.parent, "--save-preset")


def _named_from(path: Path, preset: Preset) -> str:
    """A preset as the one at `path` names it: paths count from there."""
    if not is_path(preset.name):
        return preset.name
    try:
        return Path(os.path.relpath(preset.path, path.parent)).as_posix()
    except ValueError:  # another drive
        return str(preset.path.absolute())


def _own_entries(ctx: click.Context) -> dict[str, list[Entry]]:
    """The options of the command alone that were given, and that a preset may set."""
    given = [
        Entry(key, _plain(ctx.params[str(param.name)]), (param.help or "").partition("  [")[0])
        for key, param in own_options(ctx.command).items()
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
    ]
    return {str(ctx.info_name): given}


def _plain(value: Any) -> Any:
    """A parameter's value as TOML has it; of all, the size of batches makes nothing of its word."""
    if value is None:
        return "auto"
    if isinstance(value, tuple):
        return [str(item) for item in cast("tuple[object, ...]", value)]
    return value if isinstance(value, (bool, int)) else str(value)
