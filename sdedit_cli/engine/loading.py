"""From checkpoints to components. `weights` is imported by the functions that load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..configs.model_block import STARTER_FOLDER as STARTER_FOLDER
from ..configs.scheduler import is_known
from ..configs.unet import UNetConfig
from ..configs.vae import TinyVAEConfig, VAEConfig
from ..errors import ModelError
from ..nn import TinyAutoencoder
from ..noise import Scheduler
from ..options import BUILT_IN_NAME, Edit
from .components import NAMES, VAE, Components, TextEncoding
from .safety import load_checker
from .towers import load_feature_extractor, load_image_encoder

if TYPE_CHECKING:
    from ..weights import Checkpoint, Loaded


_ALL_BUT_VAE = tuple(name for name in NAMES if name != "vae")


def located(source: str | os.PathLike[str], **resolving: Any) -> Path:
    """The file or folder that `source` names, "built-in" included; options and errors are `weights.resolve`'s."""
    from ..weights.hub import resolve

    return resolve(STARTER_FOLDER if source == BUILT_IN_NAME else source, **resolving)


def open_for_edit(edit: Edit, path: Path) -> Checkpoint:
    """The checkpoint at `path` as an edit asks for it, no weights read yet. Raises ModelError for what is none."""
    from ..weights import open_checkpoint
    from ..weights.checkpoint.index import SCHEDULER
    from ..weights.formats.mapped_file import reading

    encoded = edit.prompt_embeds is not None
    brought = {
        "vae": edit.vae is not None,
        "scheduler": edit.sampler is not None and not (path / SCHEDULER).is_file(),
        "text_encoder": encoded,
        "tokenizer": encoded,
    }
    with reading(whole=not edit.mmap):
        return open_checkpoint(
            path,
            config=None if path.is_dir() else edit.config,
            prediction_type=edit.prediction_type,
            variant=edit.variant,
            skip=[name for name, is_brought in brought.items() if is_brought],
        )


def components_of(
    source: Checkpoint | Path, dtype: torch.dtype, given: Mapping[str, Any], **reading: Any
) -> tuple[dict[str, Any], int | None]:
    """The fields of Components from a checkpoint, `given` ones in place of what it holds; and its native size.

    Raises ModelError for what is missing or does not fit.
    """
    from ..weights import load_networks

    loaded = load_networks(source, dtype=dtype, skip=tuple(given), **reading)
    return _fields(loaded, given, dtype), loaded.native_size


def check_loadable(edit: Edit, checkpoint: Checkpoint) -> None:
    """Raises ModelError, no weights read, for a checkpoint that `for_edit` or the first prompt would refuse."""
    from ..weights.checkpoint.checkpoint import check_runnable, check_together
    from ..weights.load.check import check_complete, check_files

    check_runnable(checkpoint)
    check_files(checkpoint)
    if not edit.partial:
        check_complete(checkpoint)
    check_together(checkpoint)
    brought = {"vae" if edit.vae else "", "text_encoder" if edit.prompt_embeds else ""}
    for name in ("unet", "vae", "text_encoder"):
        if name not in checkpoint.components.keys() | brought:
            raise _lacks(checkpoint.path, name)
    scheduler_of(checkpoint, edit.sampler)


def check_autoencoders(edit: Edit, unet: object) -> None:
    """Raises ModelError, no weights read, for autoencoders of an edit that could not be loaded, or are not for the
    latents that a UNet of this config reads."""
    from ..weights import open_checkpoint
    from ..weights.load.check import check_complete

    for name in filter(None, (edit.vae, edit.tiny_vae)):
        found = open_checkpoint(Path(name), skip=_ALL_BUT_VAE)
        if "vae" not in found.components:
            raise _no_autoencoder(Path(name))
        check_complete(found, "vae")
        _check_latents(name, found.components["vae"].config, unet)
        if name == edit.tiny_vae and found.components["vae"].kind.name != "tiny_vae":
            raise _not_tiny(name)


def check_adapters(edit: Edit, checkpoint: Checkpoint, *, complete: bool) -> None:
    """Raises ModelError for LoRAs and embeddings of an edit that cannot be read, or do not fit the model. Of LoRAs the
    tensors are looked at with `complete` alone."""
    from ..adapters.architecture import Architecture
    from ..adapters.embedding import read_embedding
    from ..adapters.open import open_adapter
    from .merging import check_files

    configs = {slot: component.config for slot, component in checkpoint.components.items()}
    model = Architecture.of(configs.get("unet"), configs.get("text_encoder"), checkpoint.title())
    for file in edit.embedding:
        read_embedding(Path(file.path), model.text.hidden_size if model.text else None)
    if complete:
        check_files(edit.lora, model, partial=edit.partial)
    else:
        for file in edit.lora:
            open_adapter(Path(file.path))


def scheduler_of(checkpoint: Checkpoint, sampler: str | None = None) -> Scheduler:
    """The scheduler of a checkpoint.

    Raises ModelError when it has none, or one that is not known: where a `sampler` is asked for, it is enough that
    the config tells of the training.
    """
    if checkpoint.scheduler is None and "unet" not in checkpoint.components:
        raise _lacks(checkpoint.path, "unet")  # of a VAE alone nobody misses the scheduler
    if checkpoint.scheduler is None:
        raise _lacks(checkpoint.path, "scheduler")
    return _scheduler(checkpoint.scheduler, checkpoint.scheduler_said_by, sampler)


def _scheduler(config: Mapping[str, Any], source: str, sampler: str | None = None) -> Scheduler:
    if is_known(config):
        return Scheduler.of_checkpoint(config, source)
    try:
        return Scheduler.over(config, sampler) if sampler else Scheduler.of_checkpoint(config, source)
    except ModelError as error:
        said = f"{source}: {error}" if sampler else f"{error}; choose another with --sampler"
        raise ModelError(said) from None


def for_edit(
    edit: Edit, checkpoint: Checkpoint, dtype: torch.dtype, *, text: bool = True
) -> tuple[Components, int | None]:
    """The components of a checkpoint as an edit asks for them, those that read `text` where it is so.

    Raises ModelError for what cannot be loaded.
    """
    # Pictures to look at are encoded once, before the edit, and not by a component of it.
    scheduler = scheduler_of(checkpoint, edit.sampler)
    given: dict[str, Any] = {"scheduler": scheduler, "image_encoder": None}
    if edit.safety == "off" or "safety_checker" not in checkpoint.extras:
        # A feature extractor alone would cost the import of transformers and do nothing.
        given |= {"safety_checker": None, "feature_extractor": None}
    if edit.prompt_embeds is not None or not text:
        given |= {"text_encoder": None, "tokenizer": None}
    if edit.vae is not None:
        given["vae"] = load_vae(Path(edit.vae), dtype)
        unet = checkpoint.components.get("unet")
        _check_latents(edit.vae, given["vae"].config, unet and unet.config)
    found, native_size = components_of(checkpoint, dtype, given, partial=edit.partial)
    return Components(**found | {"scheduler": found["scheduler"].modernised()}), native_size


def text_of(edit: Edit, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> TextEncoding:
    """What reads the prompts of an edit, and nothing else of the checkpoint. Raises ModelError."""
    from ..weights.formats.mapped_file import reading
    from .encoding import text_side

    with reading(whole=not edit.mmap):
        return text_side(checkpoint, device, dtype, partial=edit.partial)


def load_vae(path: Path, dtype: torch.dtype) -> VAE:
    """The autoencoder of a file, of its own folder, or of a whole model's. Raises ModelError when there is none."""
    from ..weights import load_networks

    vae = load_networks(path, dtype=dtype, skip=_ALL_BUT_VAE).vae
    if vae is None:
        raise _no_autoencoder(path)
    return vae


def tiny_decoder(edit: Edit, components: Components, dtype: torch.dtype) -> TinyAutoencoder | None:
    """The tiny autoencoder that an edit names, for latents of this model; None where it names none.

    Raises ModelError for another one.
    """
    if edit.tiny_vae is None:
        return None
    found, own = load_vae(Path(edit.tiny_vae), dtype), components.vae.config.latent_channels
    if not isinstance(found, TinyAutoencoder):
        raise _not_tiny(edit.tiny_vae)
    if (found.config.latent_channels, found.config.scale) != (own, components.vae.config.scale):
        channels = found.config.latent_channels
        raise ModelError(f"{edit.tiny_vae}: is for latents of {channels} channels, and this model's have {own}")
    found.pieces = replace(found.pieces, tiling=edit.tiles_autoencoder)
    return found


def _fields(loaded: Loaded, given: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(loaded, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    for name in ("unet", "vae"):
        if given.get(name, found[name]) is None:
            raise _lacks(loaded.path, name)
    if "scheduler" not in given:
        if loaded.scheduler_config is None:
            raise _lacks(loaded.path, "scheduler")
        found["scheduler"] = _scheduler(loaded.scheduler_config, loaded.scheduler_said_by)
    if loaded.safety_checker and "safety_checker" not in given:
        found["safety_checker"] = load_checker(loaded.safety_checker, dtype)
    if loaded.feature_extractor and "feature_extractor" not in given:
        found["feature_extractor"] = load_feature_extractor(loaded.feature_extractor)
    if loaded.image_encoder and "image_encoder" not in given:
        found["image_encoder"] = load_image_encoder(loaded.image_encoder, dtype)
    return found | {"requires_safety_checker": loaded.requires_safety_checker, **given}


def _lacks(path: Path, name: str) -> ModelError:
    advice = "name one with --vae" if name == "vae" else "give a complete checkpoint"
    return ModelError(f"{path}: has no {name}, which every edit needs; {advice}")


def _check_latents(name: str, vae: object, unet: object) -> None:
    """Raises ModelError for an autoencoder of other pictures, or of other latents than those of a UNet."""
    from ..weights.checkpoint.fitting import misfit, predicts

    if not isinstance(vae, VAEConfig | TinyVAEConfig):
        return
    if problem := misfit({"vae": vae}):
        raise ModelError(f"{name}: {problem}")
    if isinstance(unet, UNetConfig) and not predicts(unet, vae.latent_channels):
        raise ModelError(
            f"{name}: is for latents of {vae.latent_channels} channels, and this model's have {unet.out_channels}"
        )


def _no_autoencoder(path: Path) -> ModelError:
    return ModelError(f"{path}: holds no autoencoder; name a VAE file, its folder, or a model that has one")


def _not_tiny(path: str) -> ModelError:
    return ModelError(f"{path}: is a whole autoencoder and no tiny one; --vae takes it for both ways")
