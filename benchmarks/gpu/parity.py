"""Pictures against the reference's: the same checkpoint, input, prompt and seed; mean difference in levels of 255."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.models import STARTER, settled
from ..common.programs import photo
from ..common.rows import Row
from .checks import check
from .models import kind_of

BOUND = 2.0
STEPS = 12
SAMPLERS = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler")


def run(given: argparse.Namespace) -> Iterator[Row]:
    dtype = "fp16" if given.device.startswith("cuda") else "fp32"
    with tempfile.TemporaryDirectory() as place:
        # Smaller, the tiny model's norms would have one number in a group, and make noise of it.
        folders = {"the built-in model": (STARTER, 64), "a tiny model": (Path(place) / "tiny", 128)}
        if not given.quick:
            folders["random weights of SD 1.5's size"] = (Path(place) / "full", 512)
        for name, (folder, side) in folders.items():
            if folder != STARTER:
                settled(folder, dtype, quick="tiny" in name)
            for sampler in SAMPLERS[: 1 if given.quick or side == 512 else None]:
                yield check(f"{name}, {sampler}", dtype, difference(given, folder, side, sampler), BOUND, "levels")


def difference(given: argparse.Namespace, folder: Path, side: int, sampler: str) -> float:
    """The mean difference of our picture and the reference's."""
    import diffusers
    import numpy as np

    import sdedit_cli

    pictures: list[Any] = []
    for library in (sdedit_cli, diffusers):
        pipe: Any = library.StableDiffusionImg2ImgPipeline.from_pretrained(
            folder, torch_dtype=kind_of(given), safety_checker=None
        )
        pipe = pipe.to(given.device)
        pipe.scheduler = getattr(library, sampler).from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        pictures.append(_picture(pipe, side))
        del pipe
    ours, theirs = pictures
    return float(np.abs(ours - theirs).mean() * 255)


def _picture(pipe: Any, side: int) -> Any:
    import torch

    how = {"strength": 0.8, "num_inference_steps": STEPS, "guidance_scale": 5.0, "output_type": "np"}
    return pipe("a red apple", photo(side), generator=torch.Generator().manual_seed(0), **how).images[0]
