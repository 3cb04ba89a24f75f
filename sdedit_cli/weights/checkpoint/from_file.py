"""A single file as a Checkpoint: its family, its components with their configs, and where each tensor comes from.

Everything is told from names and shapes of tensors. Only a file that is named as the weights of a component's folder is
told by the `config.json` beside it too, as in that folder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from ...configs.base import read_json
from ...configs.clip import CLIPTextConfig
from ...configs.model_block import noted_block
from ...errors import ModelError, listed
from ...names import ldm
from ...names.older import current_names, is_doubled, is_harmless
from ...names.table import Origin, origins
from ..formats.source import WeightSource
from . import infer, notes
from .checkpoint import Checkpoint, Component
from .components import KINDS, Config, Kind, is_of
from .families import OPENCLIP, Family, family_of
from .index import SCHEDULER, has_scheduler
from .layouts import Place, Shapes, Slot, find_places, is_another_model, looks_like, restored
from .prediction import Evidence, find_prediction
from .renamed import Renamed
from .tokenizers import TokenizerFiles

OUR_LAYOUTS = ("diffusers", "clip")


def read_file(
    source: WeightSource,
    *,
    prediction_type: str | None = None,
    config: Path | None = None,
    ema: bool = False,
    skip: Collection[str] = (),
) -> Checkpoint:
    """What `source`, an opened single file, holds.

    Args:
        source: Read for names and shapes only.
        prediction_type: What the UNet predicts, where the caller knows it.
        config: A folder in diffusers layout whose configs replace what shapes tell.
        ema: Take the UNet's weights from the averaged copy that training keeps; where it is the only one, it is taken.
        skip: Components that the caller brings.

    Raises:
        ModelError: The file is none of Stable Diffusion's, and says what it looks like; or has no EMA copy.
    """
    stored = {name: source.shape(name) for name in source.names()}
    shapes, places, copies = stored, find_places(stored), restored(stored)
    if copies and "unet" not in places:  # the copy is the only UNet there is
        shapes = {**stored, **{name: stored[copy] for name, copy in copies.items()}}
        places = find_places(shapes)
        ema = ema or "unet" in places
    if not places or ("unet" not in skip and is_another_model(stored, places)):
        raise ModelError(f"{source.path}: {looks_like(list(stored))}")
    if ema and not copies:
        raise ModelError(f"{source.path}: has no EMA copy of the UNet; leave --ema out")
    try:
        family = family_of(infer.traits(shapes, places))
        told = notes.configs(source.metadata)
        components: dict[Slot, Component] = {}
        for slot, place in places.items():
            kind = KINDS[place.kind]
            chosen = _given_config(config, kind) or told.get(kind.name)
            beside = None if chosen else _config_beside(source.path, place)
            component = _component(source, shapes, place, family, chosen or (beside and beside[0]), ema)
            components[slot] = replace(component, said_by=str(beside[1])) if beside else component
        _check_copy(components.values(), stored)
    except ModelError as error:
        raise ModelError(f"{source.path}: {error}") from None
    evidence = Evidence(source.path, source.metadata, stored, source.extras)
    configured = config if config and has_scheduler(config) else None
    prediction, scheduler = find_prediction(family, evidence, asked=prediction_type, configured=configured)
    kept = {name for part in components.values() for name in (*part.tensors.source_names(), *part.unknown)}
    return Checkpoint(
        path=source.path,
        format=source.format,
        family=family,
        components={slot: component for slot, component in components.items() if slot not in skip},
        prediction=prediction,
        scheduler=scheduler if "unet" in components or configured else None,
        tokenizers={} if "tokenizer" in skip else _tokenizers(source, components, family, config, skip),
        metadata=writable(source.metadata),
        native_size=notes.native_size(source.metadata),
        block=noted_block(source.metadata, str(source.path)),
        source=source,
        dropped=tuple(name for name in stored if name not in kept),
        has_ema=bool(copies),
        uses_ema=ema,
        scheduler_file=configured and configured / SCHEDULER,
    )


def _check_copy(components: Collection[Component], stored: Shapes) -> None:
    missing = [name for part in components for name in part.tensors.source_names() if name not in stored]
    if missing:
        raise ModelError(
            f"its EMA copy of the UNet is incomplete, {len(missing)} tensors are missing ({listed(sorted(missing))}); "
            "leave --ema out, or convert with --no-ema"
        )


def _component(
    source: WeightSource, shapes: Shapes, place: Place, family: Family, config: Config | None, ema: bool
) -> Component:
    kind, inner = KINDS[place.kind], place.inside(shapes)
    chosen = config or kind.infer(inner, place, family)
    table = kind.table(chosen, place.layout == OPENCLIP)
    own = place.layout in OUR_LAYOUTS
    found = current_names(inner, table) if own else origins(table, inner)
    used = {name for origin in found.values() for name in origin.sources}
    # Without a prefix of its own the file may hold anything beside the component: that is dropped, and reported.
    rest = [name for name in inner if name not in used and not place.is_bare]
    unknown = [name for name in rest if not _at_home(name, place) and not is_doubled(name, inner)]
    copied = ema and place.kind == "unet"
    return Component(
        kind,
        chosen,
        Renamed(source, {name: _in_file(origin, place.prefix, copied) for name, origin in found.items()}),
        tuple(place.prefix + name for name in unknown),
        prefix=place.prefix,
        own_names=own,
        openclip=place.layout == OPENCLIP,
        said_by=f"the {kind.words}'s config",
    )


def _at_home(name: str, place: Place) -> bool:
    """Whether a name is expected at this place although nothing of ours comes from it."""
    if place.layout == OPENCLIP:
        return name.startswith(("logit_scale", "text_projection", "attn_mask", "transformer.resblocks.23."))
    return is_harmless(name) or name.startswith("loss.")


def _in_file(origin: Origin, prefix: str, copied: bool) -> Origin:
    names = (ldm.ema_name(ldm.UNET + name) if copied else prefix + name for name in origin.sources)
    return Origin(tuple(names), origin.operation, origin.part, origin.parts)


def _given_config(folder: Path | None, kind: Kind) -> Config | None:
    path = folder / kind.slot / "config.json" if folder else None
    return kind.config.from_dict(read_json(path), str(path)) if path and path.is_file() else None


def _config_beside(file: Path, place: Place) -> tuple[Config, Path] | None:
    """The config of a component's folder and its path, for the file that has its weights there."""
    kind, path = KINDS[place.kind], file.with_name("config.json")
    if place.layout not in OUR_LAYOUTS or not place.is_bare or not file.name.startswith(kind.stem + "."):
        return None
    said = read_json(path) if path.is_file() else {}
    return (kind.config.from_dict(said, str(path)), path) if is_of(kind, said) else None


def _tokenizers(
    source: WeightSource,
    components: Mapping[Slot, Component],
    family: Family,
    config: Path | None,
    skip: Collection[str],
) -> dict[Slot, TokenizerFiles]:
    texts: dict[Slot, CLIPTextConfig | None] = {
        slot: component.text for slot, component in components.items() if component.text is not None
    }
    if "text_encoder" in skip:  # the caller's own reads the prompts of a file that has none
        texts = {"text_encoder": None, **texts}
    found: dict[Slot, TokenizerFiles] = {}
    for slot, text in texts.items():
        given = config / KINDS[slot].tokenizer if config else None
        folder = given if given and given.is_dir() else None
        carried = source.metadata.get(notes.TOKENIZER) if slot == "text_encoder" and folder is None else None
        found[slot] = TokenizerFiles(source.path, family.padding[slot], text, folder, carried)
    return found


def writable(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata as a file can hold it: halves of characters, which JSON may bring, become question marks."""
    return {
        key.encode(errors="replace").decode(): value.encode(errors="replace").decode()
        for key, value in metadata.items()
    }
