"""The feature space of the evaluation: `python -m training.features --size 64`.

A small convolutional network learns which concept a picture shows, whatever its style, from pictures that are flipped,
moved, blurred, recoloured and noised. Its 128 normalised features are what the prompt-control score is measured in;
statistics of its first levels (`textures`) are those of the KID. It never sees a picture made by the model, nor a
stroke drawing, and is fixed by this file and its seed.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import cast

import click
import numpy as np
import safetensors.torch as files
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import data
from .diffusion import moved
from .loop import Settings, Trainer, pick_device
from .vae import as_model_input, chunks

SIDE = 64
WIDTH = 128
TEMPERATURE = 0.1


class Block(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(8, out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = F.silu(self.norm1(self.halve(x_BCHW)))
        return x_BCHW + F.silu(self.norm2(self.conv(x_BCHW)))


class FeatureNet(nn.Module):
    """Pictures in -1..1 of any size to features of length one: [B, WIDTH]."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise((3, 32, 64, 128, 192))))
        self.head = nn.Linear(192 * 16, WIDTH)
        self.prototypes = nn.Parameter(torch.randn(concepts, WIDTH) / WIDTH**0.5)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.shape[-1] != SIDE:
            x_BCHW = F.interpolate(x_BCHW, (SIDE, SIDE), mode="area")
        return F.normalize(self.head(self.blocks(x_BCHW).flatten(1)), dim=1)

    def textures(self, x_BCHW: Tensor) -> Tensor:
        """Mean and deviation over the picture of every channel of the first three levels: how it is drawn, rather than
        what it shows. [B, 448]."""
        if x_BCHW.shape[-1] != SIDE:
            x_BCHW = F.interpolate(x_BCHW, (SIDE, SIDE), mode="area")
        parts: list[Tensor] = []
        for block in list(self.blocks)[:3]:
            x_BCHW = cast("Tensor", block(x_BCHW))
            parts += [x_BCHW.mean(dim=(2, 3)), x_BCHW.std(dim=(2, 3))]
        return torch.cat(parts, dim=1)

    def scores(self, features: Tensor) -> Tensor:
        """Log odds of each concept: [B, concepts]."""
        return features @ F.normalize(self.prototypes, dim=1).T / TEMPERATURE


def roughened(x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Moved, and then each picture by chance blurred, shifted in colour and brightness, and noised."""
    x_BCHW = moved(x_BCHW, generator)
    count, size = len(x_BCHW), x_BCHW.shape[-1]
    small = F.interpolate(x_BCHW, scale_factor=0.4, mode="area")
    blurred = F.interpolate(small, (size, size), mode="bilinear")
    mix = torch.rand(count, 1, 1, 1, generator=generator) * (torch.rand(count, 1, 1, 1, generator=generator) < 0.6)
    x_BCHW = x_BCHW + mix * (blurred - x_BCHW)
    gain = 1 + 0.15 * torch.randn(count, 3, 1, 1, generator=generator)
    x_BCHW = 1 - (1 - x_BCHW) * gain  # white stays white
    strength = 0.15 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(x_BCHW.shape, generator=generator)
    return (x_BCHW + strength * noise).clamp(-1, 1)


def load(path: Path) -> FeatureNet:
    """The trained network in evaluation mode. Raises FileNotFoundError where `training.features` has not run."""
    held = files.load_file(path)
    net = FeatureNet(len(held["prototypes"]))
    net.load_state_dict(held)
    return net.eval().requires_grad_(False)


@torch.no_grad()
def of_pixels(net: FeatureNet, pixels: np.ndarray, batch: int = 128) -> Tensor:
    """Features of uint8 pictures [N, size, size, 3]: [N, WIDTH]."""
    x = as_model_input(pixels, np.arange(len(pixels)))
    return torch.cat([net(part) for part in chunks(x, batch)])


@torch.no_grad()
def textures_of_pixels(net: FeatureNet, pixels: np.ndarray, batch: int = 128) -> Tensor:
    """`FeatureNet.textures` of uint8 pictures [N, size, size, 3]: [N, 448]."""
    x = as_model_input(pixels, np.arange(len(pixels)))
    return torch.cat([net.textures(part) for part in chunks(x, batch)])


def retrieval(net: FeatureNet, dataset: data.Dataset) -> tuple[float, float]:
    """On pictures whose concept was trained in other styles only: share whose concept is ranked first, and in the first
    ten, among all concepts."""
    rows = dataset.rows("swap")
    ranked = net.scores(of_pixels(net, dataset.pixels[rows])).argsort(dim=1, descending=True)
    hits = ranked == torch.from_numpy(dataset.concept[rows])[:, None]
    return float(hits[:, 0].float().mean()), float(hits[:, :10].any(dim=1).float().mean())


@click.command()
@click.option("--size", type=click.Choice(["64", "128"]), default="64", show_default=True, help="Pixels on a side.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--samples", type=int, default=120_000, show_default=True, help="Budget.")
@click.option("--threads", type=int, help="CPU threads.")
def main(size: str, root: Path, samples: int, threads: int | None) -> None:
    """Train the feature network into ROOT/features.safetensors; run it again to go on after a kill."""
    if threads:
        torch.set_num_threads(threads)
    device = pick_device()
    dataset = data.load(root / "data" / f"emoji-{size}.npz")
    train = torch.from_numpy(dataset.rows("train"))
    torch.manual_seed(0)
    net = FeatureNet(len(dataset.concepts))
    settings = Settings(samples, None, 64, 2e-3, ema=0.995, decay=0.05)
    trainer = Trainer({"net": net}, root / "features", settings, device)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = train[torch.randint(len(train), (settings.batch,), generator=generator)]
        x = roughened(as_model_input(dataset.pixels, rows), generator).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            features = net(x)
        wanted = torch.from_numpy(dataset.concept[rows.numpy()]).to(device)
        return F.cross_entropy(net.scores(features.float()), wanted)

    def mark() -> str:
        average = trainer.averages["net"]
        tensors = {name: value.cpu().contiguous() for name, value in average.state_dict().items()}
        files.save_file(tensors, root / "features.safetensors")
        first, ten = retrieval(load(root / "features.safetensors"), dataset)
        return f"concept in an unseen style: first {first:.0%}, in the first ten {ten:.0%}"

    trainer.run(loss_of, mark)


if __name__ == "__main__":
    main()
