"""The card of the small adapters that ship: `python -m training.adapted` measures what they do to the stroke drawings.

Writes numbers.json, README.md and a sheet into the folder of the adapters. All drawings are edited under their own
prompts with fixed settings and seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.loading import STARTER_FOLDER

from . import sheets, strokes
from .adapting import edits
from .embedding import worded
from .evaluate import pixels_of
from .image_prompt import ENCODER_WEIGHTS, LENDERS, PROMPT, SIDE, lent
from .looks import blue_over_red, from_gold, red_over_green

FOLDER = Path(__file__).parents[1] / "sdedit_cli" / "assets" / "adapters"
LORA, EMBEDDING = Path("lora/blueprint.safetensors"), Path("embedding/emoji-gold.safetensors")
IMAGE_PROMPT = Path("ip-adapter/emoji-looks.safetensors")
STRENGTHS = (0.75, 1.0)
WEIGHTS = (0.0, 0.5, 1.0)
COLOURS = 128


def spread(pictures: list[Image.Image], measure: Callable[[Any], Any]) -> dict[str, float]:
    values = measure(pixels_of(pictures))
    return {name: round(float(of(values)), 3) for name, of in (("mean", np.mean), ("least", np.min), ("most", np.max))}


def measured(folder: Path) -> tuple[dict[str, Any], list[list[Image.Image]]]:
    """The numbers of the adapters, and the rows of the sheet."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    pipeline.load_lora_weights(folder / LORA, adapter_name="look")
    pipeline.load_textual_inversion(folder / EMBEDDING)
    rows = [[strokes.draw(drawing, SIDE) for drawing in strokes.DRAWINGS.values()]]
    blue: dict[str, Any] = {}
    golden: dict[str, Any] = {}
    redder: dict[str, Any] = {}
    for strength in STRENGTHS:
        for weight in WEIGHTS:
            pipeline.set_adapters("look", weight)
            rows.append(edits(pipeline, SIDE, strength, PROMPT))
            blue[f"{weight} at {strength}"] = spread(rows[-1], blue_over_red)
            if not weight:
                golden[f"without at {strength}"] = spread(rows[-1], from_gold)
                redder[f"none at {strength}"] = spread(rows[-1], red_over_green)
        pipeline.set_adapters("look", 0.0)
        rows.append(edits(pipeline, SIDE, strength, worded(PROMPT, EMBEDDING.stem)))
        golden[f"with at {strength}"] = spread(rows[-1], from_gold)
        pipeline.load_ip_adapter(folder / IMAGE_PROMPT)
        for name, row in zip(LENDERS, lent(pipeline, SIDE, strength), strict=True):
            rows.append(row)
            redder[f"{name} at {strength}"] = spread(row, red_over_green)
        pipeline.unload_ip_adapter()
    told = {LORA: blue, EMBEDDING: golden, IMAGE_PROMPT: redder}
    return {path.stem: facts(folder / path, edited) for path, edited in told.items()}, rows


def facts(path: Path, edits: dict[str, Any]) -> dict[str, Any]:
    held = path.read_bytes()
    return {"sha256": hashlib.sha256(held).hexdigest(), "bytes": len(held), "edits": edits}


def table(edits: dict[str, dict[str, float]]) -> str:
    return "\n".join(f"| {name} | {v['mean']:.3f} | {v['least']:.3f} to {v['most']:.3f} |" for name, v in edits.items())


def card(numbers: dict[str, Any], encoder_bytes: int) -> str:
    """The text of the card; `encoder_bytes` is the size of the image encoder's weights."""
    lora, word, picture = (numbers[path.stem] for path in (LORA, EMBEDDING, IMAGE_PROMPT))
    kilobytes = {"lora_kb": round(lora["bytes"] / 1000), "word_kb": round(word["bytes"] / 1000, 1)}
    kilobytes |= {"picture_kb": round(picture["bytes"] / 1000), "encoder_kb": round(encoder_bytes / 1000)}
    template = Path(__file__).with_name("adapted.md").read_text(encoding="utf-8")
    tables = {"blue": table(lora["edits"]), "golden": table(word["edits"]), "lent": table(picture["edits"])}
    return template.format(**kilobytes, **tables)


def encoder_bytes(folder: Path) -> int:
    return (folder / IMAGE_PROMPT.parent / ENCODER_WEIGHTS).stat().st_size


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True), default=FOLDER, help="Where the adapters are.")
def main(folder: Path) -> None:
    """Measure the adapters, and write their card."""
    numbers, rows = measured(folder)
    sheets.grid(rows, folder / "looks.png")
    Image.open(folder / "looks.png").quantize(COLOURS).save(folder / "looks.png", optimize=True)
    (folder / "numbers.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(numbers, encoder_bytes(folder)), encoding="utf-8")
    click.echo(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
