"""A LoRA, a word and an image prompt are trained by the recipe's commands; those that ship do what their card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.adapters.ip_layers import image_layers
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition
from sdedit_cli.text import Tokenizer
from training import data, embedding, image_prompt, lora, strokes
from training.adapted import IMAGE_PROMPT, card, encoder_bytes
from training.adapting import look_sampler, loss_on
from training.diffusion import Sampler, Velocity, encode_all
from training.evaluate import pixels_of
from training.looks import LOOKS, blue_over_red, from_gold, red_over_green
from training.loop import Settings, Trainer
from training.model import trainable
from training.vae import as_model_input

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[2] / "sdedit_cli" / "assets" / "adapters"
BLUEPRINT, GOLD = SHIPPED / "lora" / "blueprint.safetensors", SHIPPED / "embedding" / "emoji-gold.safetensors"
PICTURES = SHIPPED / IMAGE_PROMPT
SIDE = 64
DRAWN = ("house", "tree", "grin", "bus")


def drawn() -> data.Dataset:
    """The stroke drawings, as if they were the artwork."""
    drawings = list(strokes.DRAWINGS.values())
    concepts = tuple(data.Concept(f"{n:x}", drawing.concept, ()) for n, drawing in enumerate(drawings))
    zeros = np.zeros(len(drawings), dtype=np.int64)
    pixels = np.stack([np.asarray(strokes.draw(drawing, SIDE)) for drawing in drawings])
    return data.Dataset(pixels, zeros, np.arange(len(drawings)), zeros, concepts)


def loss_before_and_after(
    part: nn.Module, unet: UNet2DCondition, text: CLIPTextModel, sampler: Sampler, folder: Path
) -> tuple[float, float]:
    """The loss on one fixed batch before and after a few steps of `part`, which is all that they change."""
    frozen = {name: p.clone() for net in (unet, text) for name, p in net.named_parameters() if not p.requires_grad}
    loss_of = loss_on(sampler, Velocity(unet, text, CPU), 8)

    def loss() -> float:
        with torch.no_grad():
            return loss_of(torch.Generator().manual_seed(7)).item()

    trainer = Trainer({"part": part}, folder, Settings(96, None, 8, 1e-2, warmup=1, decay=0.0), CPU)
    before = loss()
    assert len(list(trainer.losses(loss_of))) == 12
    after = loss()
    now = {name: p for net in (unet, text) for name, p in net.named_parameters()}
    assert len(frozen) > 200
    assert all(torch.equal(now[name], p) for name, p in frozen.items())
    return before, after


def test_training_factors_lowers_the_loss_and_the_file_is_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = trainable(STARTER_FOLDER / "unet", UNet2DCondition)
    text = trainable(STARTER_FOLDER / "text_encoder", CLIPTextModel).requires_grad_(False)
    factors = lora.attach(unet, 2)
    tokenizer = Tokenizer.from_folder(STARTER_FOLDER / "tokenizer")
    before, after = loss_before_and_after(
        factors, unet, text, look_sampler(drawn(), "blueprint", tokenizer, CPU), tmp_path
    )
    assert after < 0.9 * before
    lora.write(factors, tmp_path / "look.safetensors", {"ss_output_name": "look"})
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    pipeline.load_lora_weights(tmp_path / "look.safetensors")
    trained = {name: layer.weight for name, layer in layers(unet).items() if name in layers(pipeline.unet)}
    assert len(trained) == 84
    for name, weight in trained.items():
        torch.testing.assert_close(layers(pipeline.unet)[name].weight, weight, atol=2e-3, rtol=0)


def layers(unet: UNet2DCondition) -> dict[str, Any]:
    found = {name: layer for name, layer in unet.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    return {name: layer for name, layer in found.items() if ".attentions." in name}


def test_training_a_word_lowers_the_loss_and_the_file_is_the_word(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = trainable(STARTER_FOLDER / "unet", UNet2DCondition).requires_grad_(False)
    text = trainable(STARTER_FOLDER / "text_encoder", CLIPTextModel)
    plain = Tokenizer.from_folder(STARTER_FOLDER / "tokenizer")
    rows = embedding.attach(text, plain.encode("coin").ids[1], 2)
    tokenizer = plain.with_added_tokens(["emoji-look", "emoji-look_1"])
    sampler = look_sampler(drawn(), "gold", tokenizer, CPU, lambda caption: embedding.worded(caption, "emoji-look"))
    before, after = loss_before_and_after(rows, unet, text, sampler, tmp_path)
    assert after < 0.98 * before
    embedding.write(rows, "emoji-look", tmp_path / "look.safetensors")
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    pipeline.load_textual_inversion(tmp_path / "look.safetensors")
    prompt = "a house, emoji-look"
    found = cast("tuple[Tensor, ...]", pipeline.encode_prompt(prompt, CPU, 1, False))[0]
    with torch.no_grad():
        own = text(torch.tensor([tokenizer.encode(prompt).ids])).last_hidden_state
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)


def test_training_an_image_prompt_lowers_the_loss_and_the_files_are_the_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = trainable(STARTER_FOLDER / "unet", UNet2DCondition).requires_grad_(False)
    text = trainable(STARTER_FOLDER / "text_encoder", CLIPTextModel).requires_grad_(False)
    modules = nn.ModuleDict({"encoder": image_prompt.encoder(), "adapter": image_prompt.adapter_of(unet)})
    vae = trainable(STARTER_FOLDER / "vae", AutoencoderKL).eval()
    sampler = Sampler(encode_all(vae, drawn(), 2, CPU), drawn(), Tokenizer.from_folder(STARTER_FOLDER / "tokenizer"))
    loss_of = image_prompt.Looking(sampler, Velocity(unet, text, CPU), modules, 8)
    trainer = Trainer({"image": modules}, tmp_path, Settings(96, None, 8, 1e-3, warmup=1, decay=0.0), CPU)

    def loss() -> float:
        with torch.no_grad():
            return loss_of(torch.Generator().manual_seed(7)).item()

    before = loss()
    assert len(list(trainer.losses(loss_of))) == 12
    assert loss() < 0.95 * before
    image_prompt.write(modules, tmp_path, image_layers(unet.config))
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    pipeline.load_ip_adapter(tmp_path / image_prompt.FILE)
    picture = strokes.draw(strokes.DRAWINGS["tree"], SIDE)
    (found,) = pipeline.prepare_ip_adapter_image_embeds(picture, None, CPU, 1, False)
    pixels = as_model_input(np.asarray(picture)[None], np.array([0]))
    with torch.no_grad():
        own = modules["encoder"](image_prompt.prepared(pixels)).image_embeds
    torch.testing.assert_close(found[:, 0], own, atol=2e-2, rtol=0)  # the files are in half precision


def test_looks_are_what_they_are_called() -> None:
    dataset = drawn()
    blueprint, gold = (LOOKS[look](dataset.pixels) for look in ("blueprint", "gold"))
    assert blue_over_red(blueprint).min() > 0.4 > 0.1 > blue_over_red(dataset.pixels).max()
    assert from_gold(gold).max() < 0.02 < 0.05 < from_gold(dataset.pixels).mean()


# What ships


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionImg2ImgPipeline:
    made = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER, torch_dtype=torch.float32)
    made.load_lora_weights(BLUEPRINT, adapter_name="blueprint")
    made.load_textual_inversion(GOLD)
    return made


def edits(pipeline: StableDiffusionImg2ImgPipeline, weight: float, tail: str = "", **more: Any) -> np.ndarray[Any, Any]:
    """Four drawings under their own prompts, two seeds each."""
    pipeline.set_adapters("blueprint", weight)
    drawings = [strokes.DRAWINGS[name] for name in DRAWN] * 2
    output: Any = pipeline(
        prompt=[f"3d emoji of a {drawing.concept}{tail}" for drawing in drawings],
        image=[strokes.draw(drawing, SIDE) for drawing in drawings],
        strength=0.8,
        num_inference_steps=10,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(drawings))],
        **more,
    )
    return pixels_of(cast("list[Image.Image]", output.images))


def test_what_ships_is_small_and_what_the_card_speaks_of() -> None:
    numbers: dict[str, Any] = json.loads((SHIPPED / "numbers.json").read_text(encoding="utf-8"))
    for path, most in ((BLUEPRINT, 400_000), (GOLD, 5_000), (PICTURES, 600_000)):
        assert path.stat().st_size < most
        assert numbers[path.stem]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert encoder_bytes(SHIPPED) < 1_200_000
    assert card(numbers, encoder_bytes(SHIPPED)) == (SHIPPED / "README.md").read_text(encoding="utf-8")


def test_the_lora_makes_blueprints_in_proportion_to_its_strength(pipeline: StableDiffusionImg2ImgPipeline) -> None:
    none, half, whole = (edits(pipeline, weight) for weight in (0.0, 0.5, 1.0))
    blue = [blue_over_red(pixels) for pixels in (none, half, whole)]
    assert (blue[2] > blue[0] + 0.1).all()
    assert blue[2].mean() > blue[0].mean() + 0.25
    assert blue[0].mean() + 0.05 < blue[1].mean() < blue[2].mean() - 0.05


def test_the_word_gilds_what_is_asked_for(pipeline: StableDiffusionImg2ImgPipeline) -> None:
    without, gilded = (edits(pipeline, 0.0, tail) for tail in ("", ", emoji-gold"))
    assert (from_gold(gilded) < from_gold(without)).all()
    assert from_gold(gilded).mean() < 0.6 * from_gold(without).mean()


def test_a_picture_lends_its_colours_in_proportion_to_its_strength(pipeline: StableDiffusionImg2ImgPipeline) -> None:
    pipeline.load_ip_adapter(PICTURES)
    apple, tree = (strokes.draw(strokes.DRAWINGS[name], SIDE) for name in ("apple", "tree"))
    try:
        redder = {}
        for strength in (1.0, 0.5, 0.0):
            pipeline.set_ip_adapter_scale(strength)
            of_both = [red_over_green(edits(pipeline, 0.0, ip_adapter_image=picture)) for picture in (apple, tree)]
            redder[strength] = of_both[0] - of_both[1]
    finally:
        pipeline.unload_ip_adapter()
    assert (redder[1.0] > 0).all()
    assert redder[1.0].mean() > redder[0.5].mean() + 0.01 > 0.02
    assert (redder[0.0] == 0).all()
