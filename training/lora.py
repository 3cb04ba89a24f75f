"""A LoRA of the built-in model: `python -m training.lora` teaches it a look (looks.py) in a few minutes on two cores.

The networks are frozen. Every linear layer and 1 x 1 convolution of the UNet's transformers gets two small factors
whose product is added to its weight (arXiv 2106.09685); the loss is that of `training.diffusion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.nn import CLIPTextModel, UNet2DCondition
from sdedit_cli.text import Tokenizer

from . import data, sheets
from .adapting import edits, halved, look_sampler, loss_on, write_whole
from .diffusion import Velocity
from .looks import LOOKS
from .loop import Settings, Trainer, on, pick_device
from .model import trainable


class Factors(nn.Module):
    """Adds up·down to a weight; nothing at first. Its alpha is its rank, so the scale is 1."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight[0].numel()) / weight[0].numel() ** 0.5)
        self.up = nn.Parameter(torch.zeros(len(weight), rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def attach(unet: UNet2DCondition, rank: int) -> nn.ModuleDict:
    """Freezes the network and gives its transformers' layers factors, returned by kohya's names of the layers."""
    unet.requires_grad_(False)
    layers = {
        name: layer
        for name, layer in unet.named_modules()
        if ".attentions." in name and isinstance(layer, (nn.Linear, nn.Conv2d))
    }
    factors = nn.ModuleDict()
    for name, layer in layers.items():
        made = factors[f"lora_unet_{name.replace('.', '_')}"] = Factors(layer.weight, rank)
        register_parametrization(layer, "weight", made)
    return factors


def write(factors: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """The factors in half precision, in kohya's naming; whole or not at all."""
    tensors = {}
    for name, own in factors.named_children():
        assert isinstance(own, Factors)
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = own.down, own.up
        tensors[f"{name}.alpha"] = torch.tensor(float(len(own.down)))
    rank = f"{len(next(iter(factors.children())).down)}"
    told = {"ss_network_dim": rank, "ss_network_alpha": rank, **metadata}
    write_whole({key: halved(value) for key, value in tensors.items()}, path, told)


def draw_sheet(lora: Path, size: int, path: Path) -> None:
    """The stroke drawings; edited without the LoRA, with half of it, and with all, at two strengths of the edit."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    pipeline.load_lora_weights(lora, adapter_name="look")
    rows: list[list[Image.Image]] = []
    for strength in (0.75, 1.0):
        for weight in (0.0, 0.5, 1.0):
            pipeline.set_adapters("look", weight)
            rows.append(edits(pipeline, size, strength, "3d emoji of {name}"))
    sheets.grid(rows, path, scale=2)


@click.command()
@click.option("--look", type=click.Choice(list(LOOKS)), default="blueprint", show_default=True)
@click.option("--rank", type=int, default=4, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--samples", type=int, default=9_600, show_default=True, help="Budget.")
@click.option("--batch", type=int, default=32, show_default=True)
@click.option("--rate", type=float, default=4e-3, show_default=True, help="Peak learning rate.")
@click.option("--threads", type=int, help="CPU threads.")
def main(look: str, rank: int, root: Path, samples: int, batch: int, rate: float, threads: int | None) -> None:
    """Train ROOT/lora-LOOK/LOOK.safetensors; run it again to go on after a kill."""
    if threads:
        torch.set_num_threads(threads)
    device, folder, size = pick_device(), root / f"lora-{look}", 64
    dataset = data.load(root / "data" / f"emoji-{size}.npz")
    tokenizer = Tokenizer.from_folder(STARTER_FOLDER / "tokenizer")
    torch.manual_seed(0)
    unet = on(trainable(STARTER_FOLDER / "unet", UNet2DCondition), device)
    text = on(trainable(STARTER_FOLDER / "text_encoder", CLIPTextModel).requires_grad_(False), device)
    factors = attach(unet, rank)
    settings = Settings(samples, None, batch, rate, warmup=20, ema=0.99, decay=0.0)
    trainer = Trainer({"lora": factors}, folder, settings, device)
    loss_of = loss_on(look_sampler(dataset, look, tokenizer, device), Velocity(unet, text, device), batch)

    def mark() -> str:
        path = folder / f"{look}.safetensors"
        write(trainer.averages["lora"], path, {"ss_output_name": look})
        draw_sheet(path, size, folder / "sheet.png")
        return f"wrote {path}, drew {folder / 'sheet.png'}"

    trainer.run(loss_of, mark)


if __name__ == "__main__":
    main()
