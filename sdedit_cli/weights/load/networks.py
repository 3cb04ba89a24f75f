"""load_networks: the components of a checkpoint as networks, with what an edit needs beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ...nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..checkpoint import Checkpoint, Component, Tokenizer, open_checkpoint
from ..checkpoint.checkpoint import check_runnable, check_together
from .check import check_config, check_files, empty_network
from .fill import Report, fill
from .paused_gc import paused_collector

_RUN = ("unet", "vae", "text_encoder")  # the slots of what edits are made with


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds, loaded. What it lacks, or the caller skipped, is None.

    The safety checker, feature extractor and image encoder are folders: who needs them reads them.
    """

    path: Path
    unet: UNet2DCondition | None = None
    vae: AutoencoderKL | TinyAutoencoder | None = None
    text_encoder: CLIPTextModel | None = None
    tokenizer: Tokenizer | None = None
    scheduler_config: Mapping[str, Any] | None = None
    scheduler_said_by: str = ""
    safety_checker: Path | None = None
    feature_extractor: Path | None = None
    image_encoder: Path | None = None
    requires_safety_checker: bool = True
    native_size: int | None = None
    report: Report = field(default_factory=Report)


def load_networks(
    source: Checkpoint | Path | str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    partial: bool = False,
    skip: Collection[str] = (),
    **reading: Any,
) -> Loaded:
    """The components of a checkpoint, in evaluation mode.

    Args:
        source: An opened checkpoint, or its path, which is opened with `reading`, the options of `open_checkpoint`.
        dtype: None keeps each tensor's precision.
        device: Where the parameters go.
        partial: Load what fits.
        skip: Components that the caller brings.

    Raises:
        ModelError: It is of a family that cannot be run, is incomplete, or does not fit its configs.
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source, skip=skip, **reading)
    if "unet" not in skip:
        check_runnable(checkpoint)
    check_files(checkpoint)
    modules: dict[str, nn.Module] = {}
    reports: dict[str, Report] = {}
    with paused_collector():
        for slot, component in checkpoint.components.items():
            if slot in _RUN and slot not in skip:
                modules[slot], reports[slot] = _network(checkpoint, component, dtype, device, partial)
    if "unet" not in skip:
        check_together(checkpoint, skip)
    extras = {name: path for name, path in checkpoint.extras.items() if name not in skip}
    return Loaded(
        checkpoint.path,
        tokenizer=None if "tokenizer" in skip else checkpoint.tokenizer(),
        scheduler_config=None if "scheduler" in skip else checkpoint.scheduler,
        scheduler_said_by=checkpoint.scheduler_said_by,
        requires_safety_checker=checkpoint.requires_safety_checker,
        native_size=checkpoint.native_size,
        report=Report.of_components(reports),
        **cast("dict[str, Any]", modules | extras),
    )


def _network(
    checkpoint: Checkpoint,
    component: Component,
    dtype: torch.dtype | None,
    device: torch.device | str,
    partial: bool,
) -> tuple[nn.Module, Report]:
    check_config(checkpoint, component)
    module = empty_network(component)
    report = fill(module, component.all_tensors(), dtype, device, partial, config=component.said_by)
    return module.eval(), report
