"""Checkpoint: what a model is, before a tensor is read. Loading, converting, describing and checking all ask it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...configs.clip import CLIPTextConfig
from ...configs.model_block import ModelBlock
from ...configs.scheduler import SchedulerConfig, is_known, said
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from ...errors import ModelError, UsageError
from ...names import ldm
from ...names.table import Origin, Table, origins, prefixed
from ...text import Tokenizer
from ..formats.source import WeightSource
from .components import Config, Kind
from .families import Family
from .fitting import misfit
from .layouts import Slot
from .prediction import Prediction
from .renamed import Renamed
from .tokenizers import TokenizerFiles

EMA_PREFIXES = (ldm.EMA, ldm.UNET)
"""What begins the names of an averaged copy in a single file, and of what it is a copy of."""
# Channels that a UNet takes beside the latents -> what for, and the reference's pipeline of that.
_TASKS = {
    0: ("", ""),
    1: ("depth to image", "StableDiffusionDepth2ImgPipeline"),
    3: ("upscaling", "StableDiffusionUpscalePipeline"),
    4: ("instruct-pix2pix", "StableDiffusionInstructPix2PixPipeline"),
    5: ("inpainting", "StableDiffusionInpaintPipeline"),
}


@dataclass(frozen=True)
class Component:
    """A part of a checkpoint that has weights of ours.

    `tensors` are under our names; `unknown` are names at its place that are none of them. `prefix` is what the file
    puts before all of them, `own_names` whether it uses our names, `openclip` whether it is written in OpenCLIP's;
    `said_by` is what errors call the config.
    """

    kind: Kind
    config: Config
    tensors: Renamed
    unknown: tuple[str, ...] = ()
    prefix: str = ""
    own_names: bool = True
    openclip: bool = False
    said_by: str = "config.json"

    @property
    def text(self) -> CLIPTextConfig | None:
        """Its config where it is a text encoder."""
        return self.config if isinstance(self.config, CLIPTextConfig) else None

    @property
    def table(self) -> Table:
        """LDM's names for its modules, without a prefix; empty where LDM knows no such component."""
        return self.kind.table(self.config, self.openclip)

    def all_tensors(self) -> Renamed:
        """Its tensors, and the unknown ones under the names that they have."""
        return self.tensors.with_more({name: Origin((name,)) for name in self.unknown})

    def in_ldm(self, prefix: str) -> Renamed:
        """Its tensors under LDM's names, with `prefix` before each."""
        table = prefixed(self.table, prefix)
        return Renamed(self.tensors, origins(table, set(self.tensors.names()), to="foreign"))


@dataclass(frozen=True)
class Checkpoint:
    """A model of any kind: a file, a folder, or components in memory.

    `source` is the single file, None for what has several or none; `dropped` are its names that no component needs,
    or what a folder has besides; `missing` are files that the index speaks of; `extras` are folders of EXTRAS that
    are meant to be used; `has_ema` tells of an averaged copy, `uses_ema` that the UNet is it; `scheduler_file` is where
    the scheduler's config is read from, None where a single file says it or its family does.
    """

    path: Path
    format: str
    family: Family
    components: Mapping[Slot, Component]
    prediction: Prediction
    scheduler: Mapping[str, Any] | None
    tokenizers: Mapping[Slot, TokenizerFiles]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    native_size: int | None = None
    block: ModelBlock = field(default_factory=ModelBlock)
    extras: Mapping[str, Path] = field(default_factory=dict[str, Path])
    requires_safety_checker: bool = False
    source: WeightSource | None = None
    dropped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    has_ema: bool = False
    uses_ema: bool = False
    scheduler_file: Path | None = None

    @property
    def scheduler_said_by(self) -> str:
        """What errors call the scheduler's config. A class that nobody knows may be the index's choice."""
        file = self.scheduler_file if is_known(self.scheduler or {}) else None
        return str(file or f"{self.path}: the scheduler's config")

    def only(self, slot: Slot | None) -> Mapping[Slot, Component]:
        """All components, or the one in a slot. Raises UsageError when there is none in it."""
        if slot is None:
            return self.components
        if slot not in self.components:
            raise UsageError(f"{self.path}: has no {slot} to convert, it has: {', '.join(self.components)}")
        return {slot: self.components[slot]}

    def names_in_file(self, component: Component, ours: Collection[str]) -> list[str]:
        """What the file would call tensors of a component that it lacks."""
        if self.source is None:
            several = len(self.components) > 1
            return [f"{component.kind.slot}/{name}" if several else name for name in ours]
        named = ours if component.own_names else origins(component.table, ours, to="foreign")
        is_copy = self.uses_ema and component.kind.slot == "unet"
        return [ldm.ema_name(ldm.UNET + name) if is_copy else component.prefix + name for name in named]

    @property
    def tells_family(self) -> bool:
        """Whether the components tell it: those of a VAE are the same in 1.x, 2.x and XL."""
        return bool({"unet", "text_encoder", "text_encoder_2"} & set(self.components))

    @property
    def is_complete(self) -> bool:
        """Whether UNet, VAE and a text encoder are all there."""
        return {"unet", "vae"} <= set(self.components) and bool({"text_encoder", "text_encoder_2"} & {*self.components})

    @property
    def task(self) -> str:
        """What the UNet was made for, '' for text to image."""
        return self._task[0]

    @property
    def pipeline(self) -> str:
        """The class of the reference that runs it."""
        return self._task[1] or self.family.pipeline

    @property
    def _task(self) -> tuple[str, str]:
        unet, vae = (self.components.get(slot) for slot in ("unet", "vae"))
        if unet is None or not isinstance(unet.config, UNetConfig):
            return "", ""
        latents = unet.config.out_channels
        if vae is not None and isinstance(vae.config, (VAEConfig, TinyVAEConfig)):
            latents = vae.config.latent_channels
        channels = unet.config.in_channels
        unknown = f"a task with {channels} channels where the latents have {latents}", ""
        return _TASKS.get(channels - latents, unknown)

    def title(self, slot: Slot | None = None) -> str:
        """The kind of model, or of one component of it, in words: 'Stable Diffusion 1.x, inpainting', 'VAE only'."""
        chosen = self.only(slot)
        has_unet = "unet" in chosen
        words = [self.family.title] if slot != "vae" and self.tells_family else []
        words += [self.task] if has_unet and self.task else []
        words += ["UNet from the EMA copy"] if has_unet and self.uses_ema else []
        if slot or not self.is_complete:
            words.append(" and ".join(component.kind.words for component in chosen.values()) + " only")
        return ", ".join(words)

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the first text encoder. Raises ModelError when it does not fit the encoder, or is broken."""
        files = self.tokenizers.get("text_encoder")
        return files.read() if files else None


def check_scheduler(checkpoint: Checkpoint) -> None:
    """Raises ModelError for a scheduler that is not known. Such a model converts, and runs when given another."""
    if checkpoint.scheduler is not None:
        SchedulerConfig.from_dict(said(checkpoint.scheduler), checkpoint.scheduler_said_by)


def check_runnable(checkpoint: Checkpoint) -> None:
    """Raises ModelError for a model that is recognised and cannot be run."""
    if not checkpoint.family.runs and checkpoint.tells_family:
        raise ModelError(f"{checkpoint.path}: is a {checkpoint.family.title} model; only 1.x and 2.x can be run so far")
    if checkpoint.task:
        unet = checkpoint.components["unet"].config
        channels = unet.in_channels if isinstance(unet, UNetConfig) else 0
        raise ModelError(
            f"{checkpoint.path}: is a model for {checkpoint.task} (its UNet takes {channels} channels); give an "
            "ordinary checkpoint"
        )


def check_together(checkpoint: Checkpoint, skip: Collection[str] = ()) -> None:
    """Raises ModelError for components, but those that the caller brings, that are not made for each other."""
    configs: dict[Slot, Config] = {
        slot: component.config for slot, component in checkpoint.components.items() if slot not in skip
    }
    if problem := misfit(configs):
        raise ModelError(f"{checkpoint.path}: {problem}; give a checkpoint whose parts are of one model")
