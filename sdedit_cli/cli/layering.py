"""The layers of one command line, and the edits that they come to with those of a job between them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.request import Model, Request
from ..errors import ModelError, did_you_mean, shown
from ..options import BUILT_IN_NAME, ENV_PREFIX, Edit, Edits, Layer, checked, environment, fields, layer_of, merged
from ..presets import (
    ADAPTER_VARIABLES,
    CONFIG_VARIABLE,
    FAST,
    MODELS_VARIABLE,
    Preset,
    UserConfig,
    user_config,
)
from .folders import Folders, adapter_folders, located
from .loras import has_marks, with_tags
from .models import find_model, model_names
from .recovered import recovered
from .replay import check_eta, check_sampler, of_other_settings, without_idle
from .words import mentions, with_words

if TYPE_CHECKING:
    from ..pictures.record import Found

# What of an edit a model may bring defaults for.
_OF_MODELS = ("Edit", "Sampling", "Model")
_OF_USERS = {"prompt", "seed", "size", "resize", "max_side", "max_megapixels", "upscale", "background"}


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
        for layer in (*between, *self.above):
            check_eta(layer)
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

        said = without_idle(find(like))
        here = {*given_here, "mask"} if given.get("mask_dir") else given_here
        adapters, found, notes = recovered(said, folders, here)
        replay = [said.layer, adapters]
        if found.model.name and "model" not in given_here:
            replay.append(Layer(like, {"model": model_of(found, like, config.model_folders)}))
    below = (config.layer, *(preset.layer for preset in presets), *replay)
    said = merged([*replay, line], "command line")
    notes = (*_unread(os.environ), *hiding, *quick, *notes)
    return Layering(below, (variables, line), said, config, folders, like, found, notes)


def _unread(variables: Mapping[str, str]) -> tuple[str, ...]:
    """A note for each variable that is called as ours are and that nothing reads: a typing error would go unseen."""
    known = {field.variable for field in fields()} | {CONFIG_VARIABLE, MODELS_VARIABLE, *ADAPTER_VARIABLES.values()}
    stray = [name for name in variables if name.startswith(ENV_PREFIX) and name not in known]
    if not stray:
        return ()
    from ..pictures.codec import MEGAPIXELS_VARIABLE
    from ..pictures.source import MEGABYTES_VARIABLE

    known |= {MEGAPIXELS_VARIABLE, MEGABYTES_VARIABLE}
    return tuple(
        f"{shown(name)} is set and does nothing: no option of an edit is called so"
        + did_you_mean(name, sorted(known), _plain_variable)
        for name in stray
        if name not in known
    )


def _plain_variable(name: str) -> str:
    # The variables of --lora-dir and --embedding-dir are in the plural.
    return re.sub("_DIR$", "S", name.removeprefix(ENV_PREFIX)).lower()


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
