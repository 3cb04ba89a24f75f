"""Networks that `torch.compile` wraps are the pipeline's as they were: adapters, image prompts and texts go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ip_adapters import adapter, image_encoder, save_adapter
from helpers.loras import DIALECTS, factors
from helpers.pipelines import picture, write_checkpoint
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def made(pipe: Any, **call: Any) -> Tensor:
    asked = {"prompt": "a cat", "image": picture(), "num_inference_steps": 2, "output_type": "pt"} | call
    return pipe(**asked, generator=torch.Generator().manual_seed(3)).images


def near(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) < 1e-5


@pytest.mark.parametrize("exchanged", ["unet", "text_encoder"])
def test_what_is_fused_stays_in_a_network_that_is_compiled_or_another(
    pipe: StableDiffusionImg2ImgPipeline, folder: Path, exchanged: str
) -> None:
    """As who wants a LoRA to cost nothing does: load, fuse, unload, compile."""
    base = made(pipe)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    fused = made(pipe)
    assert not near(base, fused)
    setattr(pipe, exchanged, torch.compile(getattr(pipe, exchanged), backend="eager"))
    for _ in range(2):
        assert near(made(pipe), fused)
    setattr(pipe, exchanged, getattr(StableDiffusionImg2ImgPipeline.from_pretrained(folder), exchanged))
    texts = pipe.encode_prompt("a cat", "cpu", 1, False)[0]
    assert near(made(pipe), fused)
    assert near(texts, pipe.encode_prompt("a cat", "cpu", 1, False)[0])


def test_image_prompts_reach_a_compiled_unet(tmp_path: Path) -> None:
    theirs = write_checkpoint(tmp_path / "model", "sd15")
    save_adapter(tmp_path / "ip" / "base.bin", adapter("base", theirs.unet))
    image_encoder().save_pretrained(tmp_path / "ip" / "image_encoder")
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "model")
    base = made(pipe)
    pipe.load_ip_adapter(tmp_path / "ip", subfolder="", weight_name="base.bin", image_encoder_folder="image_encoder")
    call = {"ip_adapter_image": picture(40, 48, seed=31)}
    plain = made(pipe, **call)
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    assert near(made(pipe, **call), plain)
    again = StableDiffusionImg2ImgPipeline(**pipe.components)
    assert near(made(again), base)
