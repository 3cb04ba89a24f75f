"""The model card: `python -m training.card --model FOLDER` writes FOLDER/README.md from the evaluation's numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import safetensors.torch as files
from PIL import Image

from . import data

SHEETS = ("prompts.png", "strengths.png", "trade-off.png", "autoencoder.png")
COLOURS = 128

TEMPLATE = Path(__file__).with_name("card.md")


def millions(folder: Path) -> str:
    """Parameters of a component, in millions."""
    weights = (files.load_file(path) for path in folder.glob("*.safetensors"))
    return f"{sum(tensor.numel() for state in weights for tensor in state.values()) / 1e6:.2f}"


def with_errors(trade: dict[str, Any], key: str) -> dict[float, str]:
    """Values with their errors, by strength."""
    return {
        strength: f"{value:.4f} ± {error:.4f}"
        for strength, value, error in zip(trade["strengths"], trade[key], trade[f"{key}_error"], strict=True)
    }


def card(model: Path, dataset: data.Dataset, numbers: dict[str, Any], history: str, caveats: str) -> str:
    """The text of the card."""
    settings, vae, prompts, trade = (numbers[k] for k in ("settings", "autoencoder", "prompts", "trade-off"))
    size = settings["size"]
    texture, concept = (with_errors(trade, key) for key in ("kid", "kid_in_concept_features"))
    total = sum(
        path.stat().st_size for path in model.rglob("*") if path.is_file() and path.suffix not in (".png", ".md")
    )
    return TEMPLATE.read_text(encoding="utf-8").format(
        size=size,
        factor=size // 16,
        vae=millions(model / "vae"),
        unet=millions(model / "unet"),
        text=millions(model / "text_encoder"),
        megabytes=round(total / 1e6, 1),
        pictures=len(dataset.pixels),
        concepts=len(dataset.concepts),
        history=history,
        caveats=caveats,
        **{name: len(dataset.rows(name)) for name in data.SPLITS},
        steps=settings["steps"],
        guidance=settings["guidance"],
        strength=settings["strength"],
        feature_first=numbers["features"]["unseen_style_first"],
        feature_ten=numbers["features"]["unseen_style_in_first_ten"],
        vae_pictures=vae["pictures"],
        psnr=vae["psnr"],
        psnr_of_style=", ".join(f"{name} {value:.1f}" for name, value in vae["psnr_of_style"].items()),
        green_magenta=vae["green_magenta"],
        yellow_blue=vae["yellow_blue"],
        deviation=vae["scaled_latent_deviation"],
        edits=prompts["edits"],
        chance=prompts["chance"],
        share=prompts["share"],
        cross=prompts["share_when_prompt_differs_from_drawing"],
        first=prompts["first_of_all_concepts"],
        ten=prompts["in_first_ten_of_all_concepts"],
        by_prompt=", ".join(f"{name} {value:.0%}" for name, value in prompts["share_of_prompt"].items()),
        rank=trade["rank_correlation_of_strength_and_mean_distance"],
        rank_picture=trade["mean_rank_correlation_of_a_picture"],
        kid_inputs=trade["kid_of_inputs"],
        kid_low=texture[0.2],
        kid_high=texture[0.8],
        kid_change=f"{trade['kid_change_from_low_to_high']:.4f} ± {trade['kid_change_error']:.4f}",
        concept_kid_low=concept[0.2],
        concept_kid_high=concept[0.8],
        strengths=", ".join(str(value) for value in trade["strengths"]),
    )


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True, help="The model folder.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--history", default="", help="A sentence on how this model was trained.")
@click.option("--caveats", default="", help="A sentence on what to expect of it.")
def main(model: Path, root: Path, history: str, caveats: str) -> None:
    """Write the card, and the sheets that it shows, into FOLDER."""
    out = root / "evaluation"
    if not (out / "numbers.json").exists():
        raise click.ClickException(f"{out / 'numbers.json'}: is not there; run python -m training.evaluate first")
    numbers = json.loads((out / "numbers.json").read_text(encoding="utf-8"))
    if len({part["unet"] for part in numbers.values()}) > 1:
        raise click.ClickException(
            f"{out / 'numbers.json'}: holds parts of different models; run training.evaluate again"
        )
    dataset = data.load(root / "data" / f"emoji-{numbers['settings']['size']}.npz")
    (model / "README.md").write_text(card(model, dataset, numbers, history, caveats), encoding="utf-8")
    shutil.copy(out / "numbers.json", model / "numbers.json")
    for name in SHEETS:
        Image.open(out / name).convert("RGB").quantize(COLOURS).save(model / name, optimize=True)


if __name__ == "__main__":
    main()
