"""A network that is exchanged while adapters are at work: the others keep theirs once, and their base."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers.loras import DIALECTS, factors
from torch import Tensor, nn

from sdedit_cli import StableDiffusionImg2ImgPipeline


def weights(network: nn.Module | None) -> dict[str, Tensor]:
    assert network is not None
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_text_encoder_that_is_let_go_of_leaves_the_unet_as_it_is(pipe: StableDiffusionImg2ImgPipeline) -> None:
    """As who encodes prompts first and wants the memory back does."""
    base = weights(pipe.unet)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    merged = weights(pipe.unet)
    assert not same(base, merged)
    encoder = pipe.text_encoder
    text = weights(encoder)
    pipe.text_encoder = None
    pipe.enable_lora()
    assert same(weights(pipe.unet), merged), "the adapter counts once"
    pipe.text_encoder = encoder
    pipe.enable_lora()
    assert same(weights(encoder), text), "it comes back, and the adapter with it"
    pipe.unload_lora_weights()
    assert same(weights(pipe.unet), base)


def test_another_unet_gets_the_adapters_and_the_text_encoder_keeps_them_once(
    pipe: StableDiffusionImg2ImgPipeline, folder: Path
) -> None:
    base = weights(pipe.text_encoder)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    unet, text = weights(pipe.unet), weights(pipe.text_encoder)
    assert not same(base, text)
    pipe.unet = StableDiffusionImg2ImgPipeline.from_pretrained(folder).unet
    pipe.enable_lora()
    assert same(weights(pipe.unet), unet)
    assert same(weights(pipe.text_encoder), text)
    pipe.unload_lora_weights()
    assert same(weights(pipe.text_encoder), base)
