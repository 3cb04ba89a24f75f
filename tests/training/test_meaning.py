"""The built-in model does what SDEdit is for: strength trades the input away, and the prompt decides what comes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.loading import STARTER_FOLDER
from training import strokes
from training.evaluate import pixels_of, rank_correlation, rms
from training.model import WEIGHTS

SIDE = 64


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)


def edits(
    pipeline: StableDiffusionImg2ImgPipeline, pictures: list[Image.Image], prompts: list[str], strength: float
) -> list[Image.Image]:
    output: Any = pipeline(
        prompt=prompts,
        image=pictures,
        strength=strength,
        num_inference_steps=12,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
    )
    return cast("list[Image.Image]", output.images)


def test_the_numbers_on_the_card_are_those_of_the_shipped_model_and_as_wanted() -> None:
    numbers: dict[str, Any] = json.loads((STARTER_FOLDER / "numbers.json").read_text(encoding="utf-8"))
    unet = hashlib.sha256((STARTER_FOLDER / "unet" / WEIGHTS["unet"]).read_bytes()).hexdigest()
    assert all(unet.startswith(part["unet"]) for part in numbers.values())
    vae, prompts, trade = (numbers[part] for part in ("autoencoder", "prompts", "trade-off"))
    assert vae["psnr"] >= 29
    assert min(vae["green_magenta"], vae["yellow_blue"]) >= 0.97
    assert abs(vae["scaled_latent_deviation"] - 1) < 0.1
    assert prompts["share"] > 0.5
    assert trade["rank_correlation_of_strength_and_mean_distance"] > 0
    assert trade["kid_change_from_low_to_high"] < 0


def test_distance_to_the_input_grows_with_strength(pipeline: StableDiffusionImg2ImgPipeline) -> None:
    drawings = [strokes.DRAWINGS[name] for name in ("apple", "grin", "tree")]
    inputs = [strokes.draw(drawing, SIDE) for drawing in drawings]
    prompts = [f"3d emoji of {drawing.concept}" for drawing in drawings]
    strengths = (0.2, 0.5, 0.9)
    distances = [float(rms(edits(pipeline, inputs, prompts, s), inputs).mean()) for s in strengths]
    assert rank_correlation(strengths, distances) > 0.99


def test_the_prompt_decides_the_colour_of_a_grey_disc(pipeline: StableDiffusionImg2ImgPipeline) -> None:
    disc = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(disc).ellipse((8, 8, 56, 56), fill="#909090")
    prompts = ["3d emoji of a red apple", "3d emoji of a deciduous tree"] * 2
    found = pixels_of(edits(pipeline, [disc] * 4, prompts, 0.9)).astype(np.float64)
    red_over_green = (found[..., 0] - found[..., 1]).mean(axis=(1, 2))
    assert red_over_green[0::2].min() > red_over_green[1::2].max() + 10
