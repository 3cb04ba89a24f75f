"""An IP-Adapter of the built-in model: `python -m training.image_prompt` teaches it to take its looks from a picture.

The networks are frozen. A small image encoder, a projection of what it says into a few tokens, and keys and values of
these beside the text's in each attention are trained together, from nothing (arXiv 2308.06721 has the encoder given).
What is denoised is a training picture, and what is looked at is the same one mirrored or moved. Half of the captions
are empty, so that the picture has to say what they do not; a tenth of the pictures are zeros, for guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.adapters.ip_layers import ImageLayer, image_layers
from sdedit_cli.configs.scheduler import SchedulerConfig
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.nn import CLIPTextModel, ImageAdapter, ImageSource, UNet2DCondition
from sdedit_cli.nn.attention import Attention
from sdedit_cli.nn.context import KV
from sdedit_cli.nn.ip_adapter import ImageKeys, LinearProjection
from sdedit_cli.noise import process_of
from sdedit_cli.text import Tokenizer

from . import data, sheets, strokes
from .adapting import edits, halved, write_whole
from .diffusion import Sampler, Velocity, cached_latents, moved, velocity_loss
from .loop import Settings, Trainer, on, pick_device
from .model import SCHEDULER, trainable, write_json
from .muon import is_hidden
from .vae import as_model_input

SIDE, TOKENS, WIDTH = 64, 4, 128
UNSAID, UNSEEN = 0.5, 0.1
# Of the preparation that users' pictures get (CLIP's).
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PROMPT = "3d emoji of {name}"
# Drawings whose looks others are to take.
LENDERS = ("apple", "tree")
FILE, ENCODER = "emoji-looks.safetensors", "image_encoder"
ENCODER_WEIGHTS = Path(ENCODER) / "model.safetensors"


def encoder() -> CLIPVisionModelWithProjection:
    """0.6 M parameters: 64 patches of 8 x 8 pixels."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=8,
        )
    )


def adapter_of(unet: UNet2DCondition) -> ImageAdapter:
    """Its keys and values begin as those of the text."""
    layers, keys = image_layers(unet.config), []
    for layer in layers:
        attention = cast("Attention", unet.get_submodule(layer.module))
        own = ImageKeys(layer.channels, layer.context_dim)
        own.to_k_ip.load_state_dict({"weight": attention.to_k.weight})
        own.to_v_ip.load_state_dict({"weight": attention.to_v.weight})
        keys.append(own)
    return ImageAdapter(LinearProjection(WIDTH, TOKENS, WIDTH), keys, [layer.module for layer in layers])


class Looking:
    """The loss on pictures that are also looked at."""

    def __init__(self, sampler: Sampler, predict: Velocity, modules: nn.ModuleDict, batch: int) -> None:
        self.sampler, self.predict, self.batch = sampler, predict, batch
        self.encoder, self.adapter = modules["encoder"], cast("ImageAdapter", modules["adapter"])
        self.process = process_of(SchedulerConfig.from_dict(SCHEDULER))
        self.empty = torch.tensor(sampler.tokenizer.encode("").ids)

    def __call__(self, generator: torch.Generator) -> Tensor:
        batch = self.sampler.draw(self.batch, generator)
        unsaid, unseen = (torch.rand(self.batch, generator=generator) < share for share in (UNSAID, UNSEEN))
        batch.ids_BT[unsaid] = self.empty
        pixels_BCHW = moved(as_model_input(self.sampler.dataset.pixels, batch.rows_B), generator)
        device, unet = self.predict.device, self.predict.unet

        def velocity(x_BCHW: Tensor, t_B: Tensor, ids_BT: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                said_BE = self.encoder(prepared(pixels_BCHW).to(device)).image_embeds
                said_BE = said_BE.masked_fill(unseen[:, None].to(device), 0.0)
                text = unet.context(self.predict.text(ids_BT).last_hidden_state)
                context = replace(text, images=(self.source(said_BE),))
                return unet(x_BCHW, unet.embed_time(t_B), context)

        return velocity_loss(velocity, self.process, batch, generator, device)

    def source(self, said_BE: Tensor) -> ImageSource:
        """The keys and values of pictures at full strength."""
        tokens_BTC = self.adapter.tokens(said_BE[:, None]).flatten(1, 2)
        kv: dict[int, KV] = {}
        for name, keys in zip(self.adapter.names, self.adapter.keys, strict=True):
            attention = cast("Attention", self.predict.unet.get_submodule(name))
            k_BNTD, v_BNTD = (attention.split(x_BTC) for x_BTC in keys(tokens_BTC))
            kv[attention.slot] = k_BNTD, v_BNTD
        return ImageSource(tuple(kv[slot] for slot in sorted(kv)), (1.0,) * len(kv))


def prepared(x_BCHW: Tensor) -> Tensor:
    """Pictures in -1..1 as the encoder takes them."""
    mean, deviation = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, DEVIATION))
    return ((x_BCHW + 1) / 2 - mean) / deviation


def write(modules: nn.Module, folder: Path, layers: Sequence[ImageLayer]) -> None:
    """The adapter's file in half precision, and the folder of its image encoder beside it."""
    vision, adapter = (modules.get_submodule(name) for name in ("encoder", "adapter"))
    (folder / ENCODER).mkdir(parents=True, exist_ok=True)
    numbers = {str(place): str(layer.number) for place, layer in enumerate(layers)}
    tensors: dict[str, Tensor] = {}
    for name, value in adapter.state_dict().items():
        part, place, leaf = name.split(".", 2)
        tensors[f"{part}.{numbers[place] if part == 'ip_adapter' else place}.{leaf}"] = halved(value)
    write_whole(tensors, folder / FILE, {})
    write_whole({k: halved(v) for k, v in vision.state_dict().items()}, folder / ENCODER_WEIGHTS, {})
    config = cast("Any", vision).config.to_diff_dict()
    del config["transformers_version"]
    write_json(config, folder / ENCODER / "config.json")


def lent(pipeline: StableDiffusionImg2ImgPipeline, size: int, strength: float) -> list[list[Image.Image]]:
    """The stroke drawings, edited under their prompts with each of LENDERS beside them: a row for each."""
    lenders = [strokes.draw(strokes.DRAWINGS[name], size) for name in LENDERS]
    return [edits(pipeline, size, strength, PROMPT, ip_adapter_image=lender) for lender in lenders]


def draw_sheet(folder: Path, size: int, path: Path) -> None:
    """The stroke drawings; edited without a picture beside them, and with each of LENDERS, at two strengths."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    rows = [[strokes.draw(drawing, size) for drawing in strokes.DRAWINGS.values()]]
    for strength in (0.75, 1.0):
        rows.append(edits(pipeline, size, strength, PROMPT))
        pipeline.load_ip_adapter(folder / FILE)
        rows += lent(pipeline, size, strength)
        pipeline.unload_ip_adapter()
    sheets.grid(rows, path, scale=2)


@click.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--samples", type=int, default=32_000, show_default=True, help="Budget.")
@click.option("--batch", type=int, default=32, show_default=True)
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Peak learning rate.")
@click.option("--threads", type=int, help="CPU threads.")
def main(root: Path, samples: int, batch: int, rate: float, threads: int | None) -> None:
    """Train ROOT/image-prompt/emoji-looks.safetensors; run it again to go on after a kill."""
    if threads:
        torch.set_num_threads(threads)
    device, folder = pick_device(), root / "image-prompt"
    dataset = data.load(root / "data" / f"emoji-{SIDE}.npz")
    torch.manual_seed(0)
    unet = on(trainable(STARTER_FOLDER / "unet", UNet2DCondition).requires_grad_(False), device)
    text = on(trainable(STARTER_FOLDER / "text_encoder", CLIPTextModel).requires_grad_(False), device)
    modules = nn.ModuleDict({"encoder": encoder(), "adapter": adapter_of(unet)})
    trainer = Trainer(
        {"image": modules}, folder, Settings(samples, None, batch, rate, ema=0.99), device, None, is_hidden
    )
    latents = cached_latents(folder, STARTER_FOLDER / "vae", dataset, 2, device)
    sampler = Sampler(latents, dataset, Tokenizer.from_folder(STARTER_FOLDER / "tokenizer"))
    loss_of = Looking(sampler, Velocity(unet, text, device), modules, batch)

    def mark() -> str:
        write(trainer.averages["image"], folder, image_layers(unet.config))
        draw_sheet(folder, SIDE, folder / "sheet.png")
        return f"wrote {folder / FILE}, drew {folder / 'sheet.png'}"

    trainer.run(loss_of, mark)


if __name__ == "__main__":
    main()
