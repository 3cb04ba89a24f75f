"""From the declaration of an edit to the options of a command, its help page, and the layers of one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..batch.request import Model, Request
from ..errors import ModelError
from ..options import (
    BUILT_IN_NAME,
    GROUPS,
    Edit,
    Edits,
    Field,
    Layer,
    checked,
    environment,
    fields,
    layer_of,
    merged,
)
from ..presets import ADAPTER_VARIABLES, FAST, Preset, UserConfig, user_config
from .folders import KINDS, Folders, adapter_folders, located
from .loras import has_marks, with_tags
from .models import find_model, model_names
from .recovered import recovered
from .replay import check_sampler, of_other_settings
from .words import mentions, with_words

if TYPE_CHECKING:
    from ..pictures.record import Found

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only in newer releases of click

FILES = GROUPS[-1]
# What of an edit a model may bring defaults for.
_OF_MODELS = ("Edit", "Sampling", "Model")
_OF_USERS = {"prompt", "seed", "size", "resize", "max_side", "max_megapixels", "upscale", "background"}
REPORTING = "Reporting"

F = TypeVar("F", bound=Callable[..., Any])


class Value(ParamType):
    """A value of an option of an edit: read and checked by its declaration, so that every source says the same."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.name = field.kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        read = self.field.parse_item if self.field.repeated else self.field.parse
        return read(value, self.field.flag) if isinstance(value, str) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        words = _SUGGEST[self.field.name]() if self.field.name in _SUGGEST else self.field.option.choices
        found = [CompletionItem(word) for word in words if word.lower().startswith(incomplete.lower())]
        return found if found or not self.field.option.path else [CompletionItem(incomplete, type="file")]


class FileName(ParamType):
    """A file or a folder by its name, which the shell completes; not checked here."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


def _sampler_names() -> Sequence[str]:
    from ..noise.samplers import SAMPLERS

    # In one word each: shells split what they complete at spaces.
    return [name.lower().replace("++", "pp").replace(" ", "_") for name in SAMPLERS]


def _model_names() -> Sequence[str]:
    return model_names(user_config(os.environ).model_folders)


def _adapter_names(kind: str) -> Callable[[], Sequence[str]]:
    # Shells split what they complete at spaces.
    return lambda: [name for name in adapter_folders({}, user_config(os.environ))[kind].names() if " " not in name]


_SUGGEST: dict[str, Callable[[], Sequence[str]]] = {
    "sampler": _sampler_names,
    "model": _model_names,
    **{kind: _adapter_names(kind) for kind in KINDS},
}


class GroupedOption(click.Option):
    """An option that knows its heading on the help page."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help page lists the options under headings, in the order of their declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                rows.setdefault(getattr(param, "group", REPORTING), []).append(row)
        for heading, listed in rows.items():
            if listed:
                with formatter.section(heading):
                    formatter.write_dl(listed, col_max=26)


def option(*args: Any, group: str, **kwargs: Any) -> Callable[[F], F]:
    """click.option under a heading of the help page."""
    return click.option(*args, cls=GroupedOption, group=group, **kwargs)


def edit_options(**blanks: str) -> Callable[[F], F]:
    """Adds the options of an edit and those that name a picture of one, all 'not given' by default.

    `blanks`: what the absence of an option means to the command, where its declaration says otherwise.
    """
    return lambda command: _with_edit(command, blanks)


def _with_edit(command: F, blanks: Mapping[str, str]) -> F:
    like = "Take the settings that PICTURE was made with."
    command = option("--like", type=FileName(), metavar="PICTURE", group="Edit", help=like)(command)
    command = adapter_dirs(command)
    for one in reversed(fields()):
        blank = blanks.get(one.name, one.option.blank)
        command = field_option(replace(one, option=replace(one.option, blank=blank)))(command)
    return command


def adapter_dirs(command: F) -> F:
    """Adds the options that name folders of adapters."""
    for kind in reversed(KINDS.values()):
        text = f"Folder to look for {kind.word}s in by name, before those in ${ADAPTER_VARIABLES[kind.name]}."
        command = option(
            kind.option, kind.parameter, multiple=True, type=FileName(), metavar="DIR", group="Model", help=text
        )(command)
    return command


def field_option(field: Field) -> Callable[[F], F]:
    """The click option of a declared one; what is not given is None, or () of one that may be repeated."""
    spec = field.option
    names = ([spec.short] if spec.short else []) + [field.flag]
    shared: dict[str, Any] = {"group": spec.group, "help": help_line(field), "default": None}
    if field.is_switch:
        return option(f"{field.flag}/--no-{field.key}", field.name, **shared)
    metavar = spec.metavar or "|".join(spec.choices) or field.kind.metavar
    return option(*names, field.name, type=Value(field), metavar=metavar, multiple=field.repeated, **shared)


def help_line(field: Field) -> str:
    """The help of an option with its range and default."""
    notes = [range_text(field), default_text(field)]
    shown = "; ".join(note for note in notes if note)
    return f"{field.option.help}  [{shown}]" if shown else field.option.help


def range_text(field: Field) -> str:
    """The bounds of a number, short."""
    low, high = field.option.low, field.option.high
    if low is None or high is None or high > 1000 or field.many:
        return ""
    return f"above {low:g} to {high:g}" if field.option.above else f"{low:g} to {high:g}"


def default_text(field: Field) -> str:
    """What holds when the option is not given, for people."""
    if field.option.blank:
        return f"default: {field.option.blank}"
    if field.is_switch:
        return "default: on" if field.default else ""
    if field.default in (None, "", ()):
        return ""
    return f"default: {field.default}"


@dataclass(frozen=True)
class Layering:
    """The layers of a command line: user config, presets, --like, those of a job between, environment, command line."""

    below: tuple[Layer, ...]
    above: tuple[Layer, ...]
    said: Layer
    """What the command line says by itself, with the picture of --like and without presets."""
    config: UserConfig
    folders: Mapping[str, Folders]
    like: str | None
    found: Found | None
    notes: tuple[str, ...]
    models: dict[str | None, tuple[Model, Layer]] = field(default_factory=dict[Any, Any], repr=False)
    """Those asked for so far, by what a layer calls them, with the layer that each brings."""
    edits: Edits = field(default_factory=Edits, repr=False)

    def request(
        self,
        between: Sequence[Layer] = (),
        last: Sequence[Layer] = (),
        finish: Callable[[Edit], Edit] = lambda edit: edit,
    ) -> Request:
        """The edit of these layers, with those of a job in their place (`last` above all), and the checkpoint that it
        means. `finish` is done to it before its prompts are looked at for names of adapters.

        Raises UsageError, PresetError, ModelError and PictureError.
        """
        plain = self.plain(between, last)
        return self.worded(plain.asking(finish(plain.edit)), {})

    def worded(self, plain: Request, words: Mapping[str, Any]) -> Request:
        """A plain request with these words (of `WORDS`) and the adapters that its prompts name. Raises as above."""
        request = plain.worded(words)
        if self.found is None and not self._names_adapters(request):
            return request
        edit, told = with_tags(request.edit, self.folders["lora"], self.found)
        edit = with_words(edit, self.folders["embedding"])
        notes = (*self.notes, *told, *of_other_settings(self.found, edit))
        return replace(request.asking(edit), notes=notes)

    def _names_adapters(self, request: Request) -> bool:
        """Whether its prompts may; without their edit, as a batch has many."""
        settings, words = request.settings, request.words
        prompt = words.get("prompt", settings.prompt)
        negative = words.get("negative_prompt", settings.negative_prompt)
        return has_marks(prompt) or has_marks(negative) or mentions(prompt, negative, self.folders["embedding"])

    def plain(self, between: Sequence[Layer] = (), last: Sequence[Layer] = ()) -> Request:
        """The edit of these layers with its prompts as they are: those of a batch are templates. Raises as above."""
        layers = [*self.below, *between, *self.above, *last]
        wanted = next((layer.values["model"] for layer in reversed(layers) if "model" in layer.values), None)
        if wanted not in self.models:
            self.models[wanted] = with_defaults(find_model(wanted, self.config.model_folders))
        model, own = self.models[wanted]
        edit = self.edits.of([own, *layers])
        edit = located(edit, self.folders)
        own_words = [name for layer in (*between, *self.above) for name in layer.values]
        found, like = self.found, self.like
        of_like = found is not None and "sampler" in found.layer.values and "sampler" not in own_words
        check_sampler(edit.sampler, like if of_like else None)
        if found and found.exact and found.vae.name and not edit.vae:
            raise ModelError(f"{like}: was made with the autoencoder '{found.vae.name}'; say where it is with --vae")
        return Request(edit, model, found, self.notes)

    def gives(self, name: str) -> bool:
        """Whether any of the layers says something of that option."""
        return any(name in layer.values for layer in (*self.below, *self.above))


def layering(given: Mapping[str, Any], presets: Sequence[Preset], like: str | None) -> Layering:
    """The layers of a command line.

    `given` has the command line's values by field name, None where not given. Raises UsageError, PresetError,
    ModelError and PictureError.
    """
    line = checked(
        Layer("command line", {f.name: given[f.name] for f in fields() if given.get(f.name) not in (None, ())})
    )
    variables = environment(os.environ)
    config = user_config(os.environ)
    found = None
    replay: list[Layer] = []
    notes: tuple[str, ...] = ()
    hiding = tuple(
        f"preset {one.name}: {one.path}, which hides the one that comes with sdedit" for one in presets if one.hides
    )
    quick = tuple(_of_fast(one, line) for one in presets if one.name == FAST)
    folders = adapter_folders(given, config)
    given_here = {**variables.values, **line.values}
    if like is not None:
        from ..pictures.carriers import find

        said = find(like)
        here = {*given_here, "mask"} if given.get("mask_dir") else given_here
        adapters, found, notes = recovered(said, folders, here)
        replay = [said.layer, adapters]
        if found.model.name and "model" not in given_here:
            replay.append(Layer(like, {"model": model_of(found, like, config.model_folders)}))
    below = (config.layer, *(preset.layer for preset in presets), *replay)
    said = merged([*replay, line], "command line")
    return Layering(below, (variables, line), said, config, folders, like, found, (*hiding, *quick, *notes))


def _of_fast(preset: Preset, line: Layer) -> str:
    """What the preset turns on, for people."""
    named = {field.name: field.key for field in fields()}
    turned_on = [f"{named[name]} {value}" for name, value in preset.layer.values.items() if name not in line.values]
    return f"fast: {', '.join(turned_on) or 'nothing'}; the picture is near the exact one, and not the same"


def with_defaults(model: Model) -> tuple[Model, Layer]:
    """The model with what it says that it knows, and the settings that it says suit it. Raises ModelError.

    A model is not trusted: it sets what shapes a picture, and no words, files or machines.
    """
    from ..configs.model_block import STARTER_FOLDER, ModelBlock, read_block

    path = STARTER_FOLDER if model.built_in else model.path
    block = read_block(path) if path else ModelBlock()
    layer = layer_of(block.defaults, f"the model {model.name}", ModelError)
    free = {field.name for field in fields() if field.option.in_picture and field.option.group in _OF_MODELS}
    stray = next((name for name in layer.values if name not in free - _OF_USERS), None)
    if stray is not None:
        raise ModelError(f"{layer.source}: sets '{stray.replace('_', '-')}', which is for users to choose")
    return replace(model, knows=block.knows), layer


def model_of(found: Found, like: str, folders: Sequence[Path]) -> str:
    """The name of the model that a picture was made with, when we have it: names alone, as a picture is not trusted."""
    name = found.model.name
    if name == BUILT_IN_NAME or name in model_names(folders):
        return name
    raise ModelError(f"{like}: was made with the model '{name}', which is not in the model folders; give one with -m")
