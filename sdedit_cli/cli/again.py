"""What makes a picture again, for people to keep: a command line, or a preset."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import PictureError, shown
from ..options import BUILT_IN_NAME, Field, Layer, fields
from ..options.adapters import EmbeddingFile
from ..pictures.record import Found
from ..presets import preset_text
from .loras import beside_tags, lora_file

# Kinds of files whose names in a picture are of no use to find them by.
_BY_PATH = {
    "vae": "--vae",
    "ip-adapter": "--ip-adapter",
    "ip-image": "--ip-image",
    "prompt_embeds": "--prompt-embeds",
    "mask": "--mask",
    "upscaler": "--upscaler",
}


def asked_again(found: Found) -> Layer:
    """The settings of a picture, with its model, LoRAs and embeddings by their names."""
    values: dict[str, Any] = dict(found.layer.values)
    if found.model.name not in ("", BUILT_IN_NAME):
        values["model"] = found.model.name
    loras = tuple(lora_file(one.name, one) for one in beside_tags(found) if found.exact or one.scale is not None)
    words = tuple(EmbeddingFile(one.name) for one in found.ingredients if one.kind == "embedding")
    masks = [one for one in found.ingredients if one.kind == "mask"]
    if masks:
        values["mask"] = masks[0].name
    return Layer(found.layer.source, values | {"lora": loras} | {"embedding": words})


def for_people_to_add(found: Found) -> list[str]:
    """What took part and is not among the settings, or was never of use here."""
    needed = [
        f"give the {one.kind} '{shown(one.name)}' with {_BY_PATH[one.kind]}"
        for one in found.ingredients
        if one.kind in _BY_PATH and one.name and not (one.kind == "mask" and not one.sha256)
    ]
    return needed + [f"left out is {one}" for one in found.ignored]


def as_command(layer: Layer, source: str = "INPUT") -> str:
    """The command line that means a layer, quoted for the shells of Unix. Raises PictureError for a NUL in a text."""
    words = [word for field in fields() if field.name in layer.values for word in _words(field, layer)]
    stray = next((word for word in words if "\0" in word), None)
    if stray is not None:
        raise PictureError(f"{layer.source}: no command line holds the NUL in '{shown(stray, 40)}'; try --as preset")
    return " ".join(["sdedit", "run", shlex.quote(source), *map(shlex.quote, words)])


def _words(field: Field, layer: Layer) -> Iterator[str]:
    value = layer.values[field.name]
    if field.is_switch:
        yield field.flag if value else f"--no-{field.key}"
    elif field.repeated:
        for item in value:
            yield from (field.flag, str(item))
    else:
        yield field.flag
        yield ",".join(map(repr, value)) if field.many else value if isinstance(value, str) else repr(value)


def as_preset(layer: Layer) -> str:
    """The TOML of a preset that means a layer."""
    values = {name: value for name, value in layer.values.items() if value != ()}
    return preset_text(Layer(layer.source, values), (), {}).rstrip("\n")


WAYS: Mapping[str, Callable[[Layer], str]] = {"command": as_command, "preset": as_preset}
