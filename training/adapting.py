"""What training small adapters shares: pictures of a look, the loss on them, their files, and the sheet of edits."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch as files
import torch
from PIL import Image
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.configs.scheduler import SchedulerConfig
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.nn import AutoencoderKL
from sdedit_cli.noise import process_of
from sdedit_cli.text import Tokenizer

from . import data, strokes
from .diffusion import Sampler, Velocity, encode_all, velocity_loss
from .looks import LOOKS
from .loop import on
from .model import SCHEDULER, trainable
from .words import with_article

PICTURES = 1000
Loss = Callable[[torch.Generator], Tensor]


def look_sampler(
    dataset: data.Dataset,
    look: str,
    tokenizer: Tokenizer,
    device: torch.device,
    worded: Callable[[str], str] = str,
) -> Sampler:
    """Batches of some of the training pictures in a look, with what `worded` makes of their usual captions."""
    rows = np.random.default_rng(0).permutation(dataset.rows("train"))[:PICTURES]
    split = np.full_like(dataset.split, -1)
    split[rows] = data.SPLITS.index("train")
    pixels = dataset.pixels.copy()
    pixels[rows] = LOOKS[look](pixels[rows])
    changed = dataclasses.replace(dataset, pixels=pixels, split=split)
    vae = on(trainable(STARTER_FOLDER / "vae", AutoencoderKL).eval(), device)
    return Sampler(encode_all(vae, changed, 1, device), changed, tokenizer, worded)


def loss_on(sampler: Sampler, predict: Velocity, batch: int) -> Loss:
    """The loss of `training.diffusion` on batches of the sampler."""
    process = process_of(SchedulerConfig.from_dict(SCHEDULER))
    return lambda generator: velocity_loss(predict, process, sampler.draw(batch, generator), generator, predict.device)


def write_whole(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a file of safetensors, whole or not at all."""
    draft = path.with_suffix(".tmp")
    files.save_file(dict(tensors), draft, metadata={"format": "pt", **metadata})
    os.replace(draft, path)


def halved(tensor: Tensor) -> Tensor:
    """The numbers of a parameter in half precision, as they are written."""
    return tensor.detach().to("cpu", torch.float16).contiguous()


def edits(
    pipeline: StableDiffusionImg2ImgPipeline, size: int, strength: float, prompt: str, **more: Any
) -> list[Image.Image]:
    """The stroke drawings, edited under `prompt` with their names in it; `more` goes to the pipeline."""
    drawings = list(strokes.DRAWINGS.values())
    output: Any = pipeline(
        prompt=[prompt.format(name=with_article(drawing.concept)) for drawing in drawings],
        image=[strokes.draw(drawing, size) for drawing in drawings],
        strength=strength,
        num_inference_steps=15,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(drawings))],
        **more,
    )
    return output.images
