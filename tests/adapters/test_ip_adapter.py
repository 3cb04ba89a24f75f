"""Image prompts are the oracle's, for every variant, scale, mask and number of pictures; unloading leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ip_adapters import VARIANTS, adapter, extractor, image_encoder, save_adapter
from helpers.pipelines import oracle_pipeline, picture
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline

FAMILIES = ("sd15", "sd21")
# The oracle's own notices.
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*:{kind}Warning") for kind in ("Future", "Deprecation", "User")]


class Pair:
    """The oracle's pipeline and ours over the same networks, with the same adapters."""

    def __init__(self, theirs: Any, folder: Path) -> None:
        self.theirs, self.folder = theirs, folder
        self.ours = StableDiffusionImg2ImgPipeline.from_pretrained(folder)

    def load(self, *variants: str, suffix: str = ".bin") -> None:
        states = [adapter(variant, self.theirs.unet, seed) for seed, variant in enumerate(variants)]
        nothing: list[None] = [None] * len(states)
        self.theirs.load_ip_adapter(states, subfolder=nothing, weight_name=nothing, low_cpu_mem_usage=False)
        files = [save_adapter(self.folder / f"{k}{suffix}", state) for k, state in enumerate(states)]
        self.ours.load_ip_adapter(files)

    def scale(self, scale: Any) -> None:
        self.theirs.set_ip_adapter_scale(scale)
        self.ours.set_ip_adapter_scale(scale)

    def differences(self, **call: Any) -> tuple[float, Tensor]:
        """How far the pictures of both are from each other, and ours."""
        ours, theirs = made(self.ours, **call), made(self.theirs, **call)
        assert ours.shape == theirs.shape
        return float((ours - theirs).abs().max()), ours


def made(pipe: Any, **call: Any) -> Tensor:
    asked = {"prompt": "a cat", "image": picture(), "num_inference_steps": 4, "output_type": "pt"} | call
    return pipe(**asked, generator=torch.Generator().manual_seed(3)).images


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    place = tmp_path_factory.mktemp(request.param)
    pipe = oracle_pipeline(request.param)
    pipe.image_encoder, pipe.feature_extractor = image_encoder(), extractor()
    pipe.save_pretrained(place)
    pipe.image_encoder.save_pretrained(place / "image_encoder")
    return request.param, place


@pytest.fixture
def pair(folder: tuple[str, Path]) -> Pair:
    family, place = folder
    theirs = oracle_pipeline(family)
    theirs.image_encoder, theirs.feature_extractor = image_encoder(), extractor()
    return Pair(theirs, place)


A, B, C = (picture(48, 40, seed=seed) for seed in (21, 22, 23))


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_picture_is_the_oracles(variant: str, suffix: str, pair: Pair) -> None:
    plain = made(pair.ours)
    pair.load(variant, suffix=suffix)
    for call in ({}, {"guidance_scale": 1.0}, {"num_images_per_prompt": 2}):
        far, ours = pair.differences(ip_adapter_image=A, **call)
        assert far < 1e-4, call
        assert call or (ours - plain).abs().max() > 1e-2
