"""UNet and text encoder: `python -m training.diffusion --size 64`.

Latents of all training pictures are computed once. The loss is the squared error of the velocity (v-prediction,
arXiv 2202.00512), which weighs a step by its signal to noise ratio plus one. Timesteps are drawn more often in the
middle, where what is in the picture is decided (logit-normal, arXiv 2403.03206), and are stratified over a batch.
Weights are averaged (EMA), and the averages are what is written.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click
import safetensors.torch as files
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline, StableDiffusionPipelineOutput
from sdedit_cli.configs.scheduler import SchedulerConfig
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition
from sdedit_cli.noise import Process, process_of
from sdedit_cli.text import Tokenizer

from . import data, sheets, strokes, workers
from .captions import caption
from .loop import Settings, Trainer, on, pick_device
from .model import LATENT_SIDE, SCHEDULER, WEIGHTS, text_config, trainable, unet_config, write_model
from .muon import is_hidden
from .vae import as_model_input, chunks
from .words import with_article

STYLE_WEIGHTS = (3.0, 1.0, 1.0)  # 3d is the main style
CENTRED = 0.4  # share of pictures that are drawn just as they are; the others mirrored or moved
T_SPREAD, T_CENTRE = 1.4, 0.1
SHEET_STRENGTHS = (0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Latents:
    """`values[V, N, 4, 16, 16]`: V views of the N training pictures, scaled to unit variance; `rows[N]` of the data."""

    values: Tensor
    rows: Tensor


def moved(x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures flipped at random, scaled by 0.85 to 1.1 and moved by up to 6% of their side, on white."""
    count = len(x_BCHW)
    scale = 1 / torch.empty(count).uniform_(0.85, 1.1, generator=generator)
    sign = torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1
    shift = torch.empty(count, 2).uniform_(-0.12, 0.12, generator=generator)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * sign, scale, shift
    where = F.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    # Outside reads as 0: with white as zero, new surroundings are white.
    return F.grid_sample(x_BCHW - 1, where, mode="bicubic", align_corners=False).clamp(-2, 0) + 1


@torch.no_grad()
def encode_all(vae: AutoencoderKL, dataset: data.Dataset, views: int, device: torch.device) -> Latents:
    """View 0 is the picture, view 1 its mirror image, further ones are `moved`."""
    rows = torch.from_numpy(dataset.rows("train"))
    generator = torch.Generator().manual_seed(1)
    parts: list[Tensor] = []
    for chosen in track(chunks(rows, 32), "encoding"):
        x = as_model_input(dataset.pixels, chosen)
        extra: list[Tensor] = [moved(x, generator) for _ in range(views - 2)]
        batch = [x, x.flip(3), *extra][:views]
        with torch.autocast(device.type, torch.bfloat16):
            z = vae.encode(torch.cat(batch).to(device).contiguous(memory_format=torch.channels_last)).mode
        parts.append(z.float().cpu().view(len(batch), -1, *z.shape[1:]))
    return Latents(torch.cat(parts, dim=1) * vae.config.scaling_factor, rows)


def cached_latents(folder: Path, vae_folder: Path, dataset: data.Dataset, views: int, device: torch.device) -> Latents:
    """`encode_all`, kept in a file that is named after the autoencoder's weights."""
    digest = hashlib.sha256((vae_folder / WEIGHTS["vae"]).read_bytes()).hexdigest()[:12]
    path = folder / f"latents-{digest}-{views}.safetensors"
    if path.exists():
        held = files.load_file(path)
        return Latents(held["values"].float(), held["rows"])
    vae = on(trainable(vae_folder, AutoencoderKL).eval(), device)
    latents = encode_all(vae, dataset, views, device)
    folder.mkdir(parents=True, exist_ok=True)
    files.save_file({"values": latents.values.half().contiguous(), "rows": latents.rows}, path)
    return latents


@dataclass(frozen=True)
class Batch:
    """`rows_B` are those of the data."""

    latents_BCHW: Tensor
    ids_BT: Tensor
    rows_B: Tensor


class Sampler:
    """Draws training batches: pictures by style weight, a view of each, and what `worded` makes of a caption."""

    def __init__(
        self,
        latents: Latents,
        dataset: data.Dataset,
        tokenizer: Tokenizer,
        worded: Callable[[str], str] = str,
    ) -> None:
        self.latents, self.dataset, self.tokenizer, self.worded = latents, dataset, tokenizer, worded
        style = torch.from_numpy(dataset.style)[latents.rows]
        self.weights = torch.tensor(STYLE_WEIGHTS)[style]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        picked = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        views = torch.randint(len(self.latents.values), (count,), generator=generator)
        views[torch.rand(count, generator=generator) < CENTRED] = 0
        draw = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        rows = self.latents.rows[picked]
        ids = [self.caption_ids(int(row), draw) for row in rows]
        return Batch(self.latents.values[views, picked], torch.tensor(ids), rows)

    def caption_ids(self, row: int, draw: random.Random) -> list[int]:
        concept = self.dataset.concepts[int(self.dataset.concept[row])]
        text = caption(concept, int(self.dataset.style[row]), draw)
        return self.tokenizer.encode(self.worded(text)).ids


def plain_attention(q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
    """`nn.ops.attention`, written out: on CPUs, torch's own takes thrice as long to go backwards through 256 tokens."""
    scores_BNTS = (q_BNTD * q_BNTD.shape[-1] ** -0.5) @ k_BNSD.transpose(-1, -2)
    return scores_BNTS.softmax(dim=-1).to(v_BNSD.dtype) @ v_BNSD


class Velocity:
    """What the networks predict from latents, timesteps and captions, under autocast."""

    def __init__(self, unet: UNet2DCondition, text: CLIPTextModel, device: torch.device) -> None:
        self.unet, self.text, self.device = unet, text, device
        if device.type == "cpu":
            unet.ops.attention = plain_attention

    def __call__(self, x_BCHW: Tensor, t_B: Tensor, ids_BT: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            context = self.unet.context(self.text(ids_BT).last_hidden_state)
            return self.unet(x_BCHW, self.unet.embed_time(t_B), context)


def velocity_loss(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    process: Process,
    batch: Batch,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Mean squared error of v = sqrt(a) noise - sqrt(1 - a) x_0."""
    count, table = len(batch.latents_BCHW), process.alphas_cumprod
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    normal = cast("Tensor", torch.special.ndtri(strata))
    t_B = ((normal * T_SPREAD + T_CENTRE).sigmoid() * len(table)).long().clamp(max=len(table) - 1)
    noise = torch.randn(batch.latents_BCHW.shape, generator=generator)
    alpha, sigma = (part.sqrt().view(-1, 1, 1, 1) for part in (table[t_B], 1 - table[t_B]))
    x_BCHW = (alpha * batch.latents_BCHW + sigma * noise).to(device, memory_format=torch.channels_last)
    v_BCHW = (alpha * noise - sigma * batch.latents_BCHW).to(device)
    return F.mse_loss(predict(x_BCHW, t_B.to(device), batch.ids_BT.to(device)).float(), v_BCHW)


def draw_sheet(model: Path, size: int, path: Path) -> None:
    """The stroke drawings, edited under their own prompts at three strengths."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model, torch_dtype=torch.float32)
    inputs = [strokes.draw(drawing, size) for drawing in strokes.DRAWINGS.values()]
    prompts = [f"3d emoji of {with_article(drawing.concept)}" for drawing in strokes.DRAWINGS.values()]
    rows = [inputs]
    for strength in SHEET_STRENGTHS:
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(inputs))]
        output = pipeline(
            prompt=prompts,
            image=inputs,
            strength=strength,
            num_inference_steps=20,
            guidance_scale=5.0,
            generator=generators,
        )
        rows.append(cast("StableDiffusionPipelineOutput", output).images)
    sheets.grid(rows, path, scale=max(1, 128 // size))


def networks(start: Path | None, tokenizer: Tokenizer) -> tuple[UNet2DCondition, CLIPTextModel]:
    """Those of the model folder `start`, or untrained ones."""
    if start:
        return trainable(start / "unet", UNet2DCondition), trainable(start / "text_encoder", CLIPTextModel)
    text = CLIPTextModel(text_config(tokenizer.eos_id + 1, tokenizer.model_max_length))
    for table in (text.text_model.embeddings.token_embedding, text.text_model.embeddings.position_embedding):
        torch.nn.init.normal_(cast("torch.nn.Embedding", table).weight, std=0.02)
    return UNet2DCondition(unet_config()), text


@click.command()
@click.option("--size", type=click.Choice(["64", "128"]), default="64", show_default=True, help="Pixels on a side.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--vae", "vae_folder", type=click.Path(path_type=Path, exists=True), help="[default: ROOT/vae-SIZE/vae]")
@click.option(
    "--start-from", "start", type=click.Path(path_type=Path, exists=True), help="A model folder to train further."
)
@click.option("--samples", type=int, default=1_000_000, show_default=True, help="Budget, unless --minutes is given.")
@click.option("--minutes", type=float, help="Budget in minutes of training.")
@click.option("--batch", type=int, default=32, show_default=True)
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Peak learning rate.")
@click.option("--views", type=int, default=4, show_default=True, help="Views of a picture: itself, mirrored, moved ...")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--compile", "compiled", is_flag=True, help="With torch.compile: half a minute for a quarter more speed.")
def main(
    size: str,
    root: Path,
    vae_folder: Path | None,
    start: Path | None,
    samples: int,
    minutes: float | None,
    batch: int,
    rate: float,
    views: int,
    threads: int | None,
    compiled: bool,
) -> None:
    """Train UNet and text encoder into ROOT/model-SIZE; run it again to go on after a kill."""
    workers.join()
    if threads:
        torch.set_num_threads(threads)
    device, folder = pick_device(), root / f"diffusion-{size}"
    vae_folder = vae_folder or root / f"vae-{size}" / "vae"
    dataset = data.load(root / "data" / f"emoji-{size}.npz")
    tokenizer = Tokenizer.from_folder(STARTER_FOLDER / "tokenizer")
    sampler = Sampler(cached_latents(folder, vae_folder, dataset, views, device), dataset, tokenizer)
    assert sampler.latents.values.shape[-1] == LATENT_SIDE
    torch.manual_seed(0)
    unet, text = networks(start, tokenizer)
    process = process_of(SchedulerConfig.from_dict(SCHEDULER))
    settings = Settings(None if minutes else samples, minutes, batch, rate, mark_every=900)
    trainer = Trainer({"unet": unet, "text": text}, folder, settings, device, is_hidden=is_hidden)
    predict: Callable[[Tensor, Tensor, Tensor], Tensor] = Velocity(unet, text, device)
    if compiled:
        predict = torch.compile(predict)

    def loss_of(generator: torch.Generator) -> Tensor:
        return velocity_loss(predict, process, sampler.draw(batch, generator), generator, device)

    def mark() -> str:
        averages = trainer.averages
        vae = trainable(vae_folder, AutoencoderKL)
        unet, text = cast("UNet2DCondition", averages["unet"]), cast("CLIPTextModel", averages["text"])
        target = root / f"model-{size}"
        write_model(target, vae, unet, text, STARTER_FOLDER / "tokenizer")
        draw_sheet(target, int(size), folder / "sheet.png")
        return f"wrote {target}, drew {folder / 'sheet.png'}"

    trainer.run(loss_of, mark)


if __name__ == "__main__":
    main()
