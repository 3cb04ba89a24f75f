"""What it would bring to take pictures through the autoencoder together: those of the built-in model, 8 of 64 and of
128 px, all at once and one at a time, by turns. Told are the seconds of one picture, and how many of the eight have
other bits in company than alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

from .common.children import ROOT
from .common.rows import OURS, Row

BUILT_IN = ROOT / "sdedit_cli" / "assets" / "starter"
COUNT, SIDES = 8, (64, 128)


def run(given: argparse.Namespace) -> Iterator[Row]:
    import torch

    from sdedit_cli import StableDiffusionImg2ImgPipeline

    rounds = 1 if given.quick else 15
    for dtype in given.dtype or ("fp32", "bf16"):
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        vae = StableDiffusionImg2ImgPipeline.from_pretrained(BUILT_IN, torch_dtype=kind).vae
        for side in SIDES:
            generator, small = torch.Generator().manual_seed(0), side // vae.config.scale
            latents = torch.randn(COUNT, vae.config.latent_channels, small, small, generator=generator).to(kind)
            images = torch.rand(COUNT, 3, side, side, generator=generator).mul(2).sub(1).to(kind)
            yield from _rows(f"encode, {side} px, {dtype}", lambda x, vae=vae: vae.encode(x).mean, images, rounds)
            yield from _rows(f"decode, {side} px, {dtype}", vae.decode, latents, rounds)


def _rows(what: str, work: Callable[[Any], Any], x: Any, rounds: int) -> Iterator[Row]:
    import torch

    ways: dict[str, Callable[[], Any]] = {
        f"{OURS}, one at a time": lambda: torch.cat([work(one[None]) for one in x]),
        f"{OURS}, {len(x)} at a time": lambda: work(x),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        alone, together = (way() for way in ways.values())
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                times[name].append((time.perf_counter() - began) / len(x))
    other = sum(not torch.equal(*pair) for pair in zip(alone, together, strict=True))
    for name, values in times.items():
        yield Row(what, name, tuple(values), also={"with other bits": float(other)})
