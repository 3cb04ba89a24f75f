"""A word of the built-in model: `python -m training.embedding` learns the vectors of a new word that stands for a look
(looks.py) in a few minutes on two cores (textual inversion, arXiv 2208.01618).

The networks are frozen; what is learned is some further rows of the text encoder's table. The loss is that of
`training.diffusion` on captions that end in the word.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.nn import CLIPTextModel, UNet2DCondition
from sdedit_cli.text import Tokenizer

from . import data, sheets
from .adapting import edits, look_sampler, loss_on, write_whole
from .diffusion import Velocity
from .looks import LOOKS
from .loop import Settings, Trainer, on, pick_device
from .model import trainable


class Rows(nn.Module):
    """Puts learned rows below a table that stays as it is. They begin as a row of the table, each a little apart."""

    def __init__(self, table_VC: Tensor, start: int, count: int) -> None:
        super().__init__()
        apart = 0.1 * table_VC.std() * torch.randn(count, table_VC.shape[1])
        self.vectors_NC = nn.Parameter(table_VC[start].detach() + apart)

    def forward(self, table_VC: Tensor) -> Tensor:
        return torch.cat([table_VC, self.vectors_NC])


def attach(text: CLIPTextModel, start: int, count: int) -> Rows:
    """Freezes the text encoder and gives its table `count` rows, which are returned."""
    text.requires_grad_(False)
    table = cast("nn.Embedding", text.text_model.embeddings.token_embedding)
    rows = Rows(table.weight, start, count)
    register_parametrization(table, "weight", rows, unsafe=True)  # it changes the table's shape
    return rows


def worded(text: str, word: str) -> str:
    """A caption that asks for the look."""
    return f"{text}, {word}" if text else word


def write(rows: nn.Module, word: str, path: Path) -> None:
    """The vectors under their word, as diffusers has it; whole or not at all."""
    assert isinstance(rows, Rows)
    write_whole({word: rows.vectors_NC.detach().cpu().contiguous()}, path, {})


def draw_sheet(embedding: Path, word: str, size: int, path: Path) -> None:
    """The stroke drawings, edited without the word and with it, at two strengths of the edit."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    pipeline.load_textual_inversion(embedding, token=word)
    prompts = ("3d emoji of {name}", worded("3d emoji of {name}", word))
    sheets.grid([edits(pipeline, size, s, prompt) for s in (0.75, 1.0) for prompt in prompts], path, scale=2)


@click.command()
@click.option("--look", type=click.Choice(list(LOOKS)), default="gold", show_default=True)
@click.option("--vectors", type=int, default=4, show_default=True, help="Places that the word takes in a prompt.")
@click.option("--start", default="coin", show_default=True, help="A word of the vocabulary that its vectors begin as.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--samples", type=int, default=4_800, show_default=True, help="Budget.")
@click.option("--batch", type=int, default=32, show_default=True)
@click.option("--rate", type=float, default=1e-2, show_default=True, help="Peak learning rate.")
@click.option("--threads", type=int, help="CPU threads.")
def main(
    look: str, vectors: int, start: str, root: Path, samples: int, batch: int, rate: float, threads: int | None
) -> None:
    """Train ROOT/embedding-LOOK/emoji-LOOK.safetensors; run it again to go on after a kill."""
    if threads:
        torch.set_num_threads(threads)
    device, folder, size, word = pick_device(), root / f"embedding-{look}", 64, f"emoji-{look}"
    dataset = data.load(root / "data" / f"emoji-{size}.npz")
    plain = Tokenizer.from_folder(STARTER_FOLDER / "tokenizer")
    tokenizer = plain.with_added_tokens([word, *(f"{word}_{n}" for n in range(1, vectors))])
    torch.manual_seed(0)
    unet = on(trainable(STARTER_FOLDER / "unet", UNet2DCondition).requires_grad_(False), device)
    text = on(trainable(STARTER_FOLDER / "text_encoder", CLIPTextModel), device)
    rows = attach(text, plain.encode(start).ids[1], vectors)
    settings = Settings(samples, None, batch, rate, warmup=20, ema=0.99, decay=0.0)
    trainer = Trainer({"rows": rows}, folder, settings, device)
    sampler = look_sampler(dataset, look, tokenizer, device, lambda caption: worded(caption, word))
    loss_of = loss_on(sampler, Velocity(unet, text, device), batch)

    def mark() -> str:
        path = folder / f"{word}.safetensors"
        write(trainer.averages["rows"], word, path)
        draw_sheet(path, word, size, folder / "sheet.png")
        return f"wrote {path}, drew {folder / 'sheet.png'}"

    trainer.run(loss_of, mark)


if __name__ == "__main__":
    main()
