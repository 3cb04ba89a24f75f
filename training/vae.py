"""The autoencoder: `python -m training.vae --size 64`.

The loss is L1 and squared error on the picture and, with more weight, on its opponent colours (colour arrives late in
training, and the UNet inherits any colour fault), L1 on its gradients, and a very small KL term.

With `--start-from FOLDER` a trained autoencoder is improved: the encoder moves slowly and is held near the latents it
started with, so that a UNet trained on them can be continued.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sdedit_cli.nn import AutoencoderKL

from . import data, sheets
from .loop import Settings, Trainer, pick_device
from .model import fresh_vae, trainable, with_scaling, write_component

KL = 1e-6
ANCHOR = 0.02
PERMUTED = 0.3  # share of pictures whose colour channels are exchanged: all hues get trained
SHIFT = 3


def opponent(x_BCHW: Tensor) -> Tensor:
    """Green against magenta, and yellow against blue: [B, 2, H, W]."""
    r, g, b = x_BCHW.unbind(1)
    return torch.stack([g - (r + b) / 2, (r + g) / 2 - b], dim=1)


def gradients(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return x_BCHW.diff(dim=2), x_BCHW.diff(dim=3)


def as_model_input(pixels: np.ndarray, rows: Tensor | np.ndarray) -> Tensor:
    """The pictures of some rows in -1..1, [B, 3, H, W], channels last."""
    x_BCHW = torch.from_numpy(pixels[np.asarray(rows)]).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def augmented(x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Flipped, moved by up to SHIFT pixels, and sometimes recoloured; new surroundings are white."""
    size = x_BCHW.shape[-1]
    padded = F.pad(x_BCHW, (SHIFT,) * 4, value=1.0)
    rows: list[Tensor] = []
    for x_CHW in padded:
        flip, permute = (float(value) for value in torch.rand(2, generator=generator))
        top, left = (int(value) for value in torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator))
        x_CHW = x_CHW[:, top : top + size, left : left + size]
        if flip < 0.5:
            x_CHW = x_CHW.flip(-1)
        if permute < PERMUTED:
            x_CHW = x_CHW[torch.randperm(3, generator=generator)]
        rows.append(x_CHW)
    return torch.stack(rows).contiguous(memory_format=torch.channels_last)


def picture_loss(y: Tensor, x: Tensor) -> Tensor:
    error = y - x
    colour = opponent(error)
    edges = sum((a - b).abs().mean() for a, b in zip(gradients(y), gradients(x), strict=True))
    absolute = error.abs().mean() + 1.5 * colour.abs().mean() + 0.3 * edges
    return absolute + 2 * error.square().mean() + 15 * colour.square().mean()


@dataclass(frozen=True)
class Quality:
    """`psnr`: mean over pictures, dB; `colour`: correlation of each opponent axis with the original's, over all pixels
    of all pictures; `spread`: standard deviation of the latents, unscaled."""

    psnr: float
    psnr_of_style: dict[str, float]
    colour: tuple[float, float]
    spread: float

    def __str__(self) -> str:
        styles = ", ".join(f"{name} {value:.1f}" for name, value in self.psnr_of_style.items())
        return (
            f"PSNR {self.psnr:.2f} dB ({styles}), green-magenta {self.colour[0]:.4f}, "
            f"yellow-blue {self.colour[1]:.4f}, latents' deviation {self.spread:.3f}"
        )


def chunks(rows: Tensor, count: int) -> list[Tensor]:
    """`rows` in pieces of `count`; the last one may be shorter."""
    return [rows[start : start + count] for start in range(0, len(rows), count)]


@torch.no_grad()
def reconstructed(vae: AutoencoderKL, x_BCHW: Tensor, device: torch.device, batch: int = 32) -> tuple[Tensor, Tensor]:
    """Pictures decoded from the mode of their latents and clamped to -1..1, and the latents."""
    latents = [vae.encode(part.to(device)).mode for part in chunks(x_BCHW, batch)]
    pictures = [vae.decode(z).clamp(-1, 1).cpu() for z in latents]
    return torch.cat(pictures), torch.cat(latents).cpu()


def quality(vae: AutoencoderKL, dataset: data.Dataset, device: torch.device) -> Quality:
    """Measured on the pictures that no training has seen, after rounding to 8 bits."""
    rows = dataset.rows("test", "swap")
    x = as_model_input(dataset.pixels, rows)
    y, z = reconstructed(vae, x, device)
    y = ((y + 1) * 127.5).round() / 127.5 - 1
    psnr = -10 * ((x - y) / 2).square().mean(dim=(1, 2, 3)).log10()
    styles = dataset.style[rows]
    colour = [
        float(np.corrcoef(a.flatten(), b.flatten())[0, 1])
        for a, b in zip(opponent(x).unbind(1), opponent(y).unbind(1), strict=True)
    ]
    of_style = {name: float(psnr[styles == i].mean()) for i, name in enumerate(data.STYLES)}
    return Quality(float(psnr.mean()), of_style, (colour[0], colour[1]), float(z.std()))


@click.command()
@click.option("--size", type=click.Choice(["64", "128"]), default="64", show_default=True, help="Pixels on a side.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--start-from", "start", type=click.Path(path_type=Path, exists=True), help="A vae folder to improve.")
@click.option("--samples", type=int, default=200_000, show_default=True, help="Budget, unless --minutes is given.")
@click.option("--minutes", type=float, help="Budget in minutes of training.")
@click.option("--batch", type=int, default=16, show_default=True)
@click.option("--rate", type=float, default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option("--threads", type=int, help="CPU threads.")
def main(
    size: str,
    root: Path,
    start: Path | None,
    samples: int,
    minutes: float | None,
    batch: int,
    rate: float,
    threads: int | None,
) -> None:
    """Train the autoencoder into ROOT/vae-SIZE; run it again to go on after a kill."""
    if threads:
        torch.set_num_threads(threads)
    device, folder = pick_device(), root / f"vae-{size}"
    dataset = data.load(root / "data" / f"emoji-{size}.npz")
    train = torch.from_numpy(dataset.rows("train"))
    torch.manual_seed(0)
    vae = trainable(start, AutoencoderKL) if start else fresh_vae(int(size))
    settings = Settings(None if minutes else samples, minutes, batch, rate, ema=0.998, mark_every=240)
    slower = {"vae.encoder": 0.5, "vae.quant_conv": 0.5} if start else {}
    anchor = copy.deepcopy(vae).to(device).eval().requires_grad_(False) if start else None
    trainer = Trainer({"vae": vae}, folder, settings, device, slower)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = train[torch.randint(len(train), (batch,), generator=generator)]
        x = augmented(as_model_input(dataset.pixels, rows), generator).to(device)
        noise = torch.randn(batch, 4, 16, 16, generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            held = vae.encode(x)
            y = vae.decode(held.sample(noise)).float()
        mean, logvar = held.mean.float(), held.logvar.float()
        if anchor is None:
            return picture_loss(y, x) + KL / 2 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            home = anchor.encode(x[: batch // 4]).mean.float()  # a quarter of the batch holds it well enough
        return picture_loss(y, x) + ANCHOR * ((mean[: batch // 4] - home) / home.std()).square().mean()

    def mark() -> str:
        average = trainer.averages["vae"]
        assert isinstance(average, AutoencoderKL)
        result = quality(average, dataset, device)
        write_component(with_scaling(average, 1 / result.spread), folder / "vae", "vae")
        shown = as_model_input(dataset.pixels, dataset.rows("test")[:48])
        sheets.pairs(shown, reconstructed(average, shown, device)[0], folder / "sheet.png")
        return str(result)

    trainer.run(loss_of, mark)


if __name__ == "__main__":
    main()
