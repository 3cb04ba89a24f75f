"""What it would bring to take pictures through the autoencoder together: the built-in model's, by time and by bits.

    python benchmarks/vae_together.py [--side PIXELS] [--rounds N]

Eight pictures are encoded and decoded one at a time, and all at once, in turns; the least of all rounds is told, and how
many of eight have other bits in company than alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline

BUILT_IN = Path(__file__).parents[1] / "sdedit_cli" / "assets" / "starter"
COUNT = 8


def seconds(work: Callable[[], Tensor], rounds: int) -> tuple[float, Tensor]:
    least, made = float("inf"), work()
    for _ in range(rounds):
        began = time.perf_counter()
        made = work()
        least = min(least, time.perf_counter() - began)
    return least, made


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    print("| dtype | side | | alone ms | together ms | alone / together | other bits |\n|---|---|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        vae = StableDiffusionImg2ImgPipeline.from_pretrained(BUILT_IN, torch_dtype=dtype).vae
        config = vae.config
        for side in given.side:
            generator = torch.Generator().manual_seed(0)
            small = side // config.scale
            latents = torch.randn(COUNT, config.latent_channels, small, small, generator=generator).to(dtype)
            images = torch.rand(COUNT, 3, side, side, generator=generator).mul(2).sub(1).to(dtype)
            ways: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
                "encode": (images, lambda x, vae=vae: vae.encode(x).mean),
                "decode": (latents, vae.decode),
            }
            for name, (x, work) in ways.items():
                alone, one = seconds(lambda: torch.cat([work(row[None]) for row in x]), given.rounds)  # noqa: B023
                together, all_ = seconds(lambda: work(x), given.rounds)  # noqa: B023
                other = sum(not torch.equal(a, b) for a, b in zip(one, all_, strict=True))
                cells = f"{alone / COUNT * 1e3:.2f} | {together / COUNT * 1e3:.2f} | {alone / together:.2f} | {other}"
                print(f"| {str(dtype).removeprefix('torch.')} | {side} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
