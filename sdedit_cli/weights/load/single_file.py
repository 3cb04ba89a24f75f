"""load_single_file: the components of a checkpoint that is one file, in LDM's layout or in ours."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ...configs.clip import CLIPTextConfig
from ...errors import ModelError
from ...nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..checkpoint.from_file import COMPONENT_WORDS, Detected, Part, detect
from ..checkpoint.layouts import Component
from ..checkpoint.renamed import Renamed
from ..checkpoint.tokenizers import find_tokenizer
from ..formats.open import open_weights
from ..formats.source import WeightSource
from .fill import Report, fill, listed
from .garbage import paused_collector
from .networks import Components

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin", ".pth")

_MODULES: dict[Component, tuple[str, Callable[[Any], nn.Module]]] = {
    "unet": ("unet", UNet2DCondition),
    "vae": ("vae", AutoencoderKL),
    "tiny_vae": ("vae", TinyAutoencoder),
    "text_encoder": ("text_encoder", CLIPTextModel),
}


def find_single_file(path: Path | str) -> Path:
    """The file itself, or the one file that has this name with a known extension. Raises ModelError for none."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        return path  # of a pipe or a device, what opens it says what is wrong
    found = [p for p in (path.with_name(path.name + suffix) for suffix in SUFFIXES) if p.is_file()]
    if found:
        return found[0]
    if path.is_dir():
        raise ModelError(f"{path}: is a folder, expected a weights file ({', '.join(SUFFIXES)})")
    raise ModelError(f"{path}: no such file, nor one with {', '.join(SUFFIXES)} after its name")


@paused_collector()
def load_single_file(
    path: Path | str,
    *,
    config: Path | str | None = None,
    prediction_type: str | None = None,
    dtype: torch.dtype | None = None,
    ema: bool | None = None,
    partial: bool = False,
    skip: Collection[str] = (),
    device: torch.device | str = "cpu",
) -> Components:
    """The components of a single file, as `load_folder` gives those of a folder; one that the file lacks is None.

    Args:
        path: The file, with or without its extension.
        config: A folder in diffusers layout: its configs, scheduler and tokenizer replace what the family has.
        prediction_type: 'epsilon', 'v_prediction' or 'sample', where the file does not say.
        dtype: None keeps the file's precision.
        ema: True takes the averaged copy of the UNet's weights that training keeps. Where it is the only one, it is
            taken.
        partial: Load what fits.
        skip: Components that the caller brings.
        device: Where the parameters go.

    Raises:
        ModelError: The file is none of Stable Diffusion 1.x or 2.x, is incomplete, or does not fit its config.
    """
    folder = Path(config) if config is not None else None
    source = open_weights(find_single_file(path))
    detected = detect(source, prediction_type=prediction_type, config=folder, ema=bool(ema))
    if "unet" not in skip:
        check_runnable(source.path, detected)
    modules: dict[str, nn.Module] = {}
    reports: dict[str, Report] = {}
    for component, (name, build) in _MODULES.items():
        part = detected.parts.get(component)
        if part is not None and name not in skip:
            modules[name], reports[name] = _load(source, component, part, build, dtype, device, partial)
    text = detected.parts.get("text_encoder")
    return Components(
        source.path,
        tokenizer=None
        if text is None or "tokenizer" in skip
        else find_tokenizer(
            source.path,
            cast(CLIPTextConfig, text.config),
            padded=detected.family.name == "sd2",
            folder=folder / "tokenizer" if folder else None,
            metadata=source.metadata,
        ),
        scheduler_config=None if "scheduler" in skip or "unet" not in detected.parts else detected.training.scheduler,
        requires_safety_checker=False,
        report=Report.of_parts(reports),
        **cast("dict[str, Any]", modules),
    )


def check_runnable(path: Path, detected: Detected) -> None:
    """Raises ModelError for models that are recognised and cannot be run."""
    if detected.family.name.startswith("sdxl") and detected.tells_family:
        raise ModelError(f"{path}: is a {detected.family.title} model; only 1.x and 2.x can be run so far")
    if detected.task == "inpainting":
        raise ModelError(f"{path}: is an inpainting model (its UNet takes 9 channels); give an ordinary checkpoint")
    if detected.task:
        raise ModelError(f"{path}: is a model for {detected.task}, expected an ordinary text-to-image checkpoint")


def part_source(source: WeightSource, part: Part) -> Renamed:
    """A component's tensors under our names: views of the file, made when they are asked for."""
    return Renamed(source, part.origins)


def _load(
    source: WeightSource,
    component: Component,
    part: Part,
    build: Callable[[Any], nn.Module],
    dtype: torch.dtype | None,
    device: torch.device | str,
    partial: bool,
) -> tuple[nn.Module, Report]:
    words = COMPONENT_WORDS[component]
    try:
        part.config.check(words)
    except ModelError as error:
        raise ModelError(
            f"{source.path}: {error}.\nIts shapes do not tell everything of this unusual model: give --config FOLDER, "
            "a model folder with its configs."
        ) from None
    if part.unknown and not partial:
        raise ModelError(
            f"{source.path}: does not fit a {words}: {len(part.unknown)} tensors are not known "
            f"({listed(part.unknown)}).\nCheck that the file is complete, or load what fits with --partial."
        )
    with torch.device("meta"):
        module = build(part.config)
    report = fill(module, part_source(source, part), dtype, device, partial, config=f"the {words}'s config")
    return module.eval(), Report(report.used, part.unknown, report.missing)
