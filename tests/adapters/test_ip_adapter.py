"""Image prompts are the oracle's, for every variant, scale, mask and number of pictures; unloading leaves no trace."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ip_adapters import VARIANTS, adapter, extractor, image_encoder, save_adapter
from helpers.pipelines import oracle_pipeline, picture
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError

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
    asked = {"prompt": "a cat", "image": picture(), "num_inference_steps": 4, "output_type": "pt"}
    return pipe(**{**asked, "generator": torch.Generator().manual_seed(3), **call}).images


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


SUFFIXES = {"base": ".bin", "plus": ".safetensors", "full": ".bin"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_picture_is_the_oracles(variant: str, pair: Pair) -> None:
    """Also unguided, and of several pictures a prompt. Without its image prompt all is as before, to the byte."""
    plain = made(pair.ours)
    pair.load(variant, suffix=SUFFIXES[variant])
    for call in ({}, {"guidance_scale": 1.0}, {"num_images_per_prompt": 2}):
        far, ours = pair.differences(ip_adapter_image=A, **call)
        assert far < 1e-4, call
        assert call or (ours - plain).abs().max() > 1e-2
    pair.scale(0.0)
    assert torch.equal(made(pair.ours, ip_adapter_image=A), plain)
    pair.ours.unload_ip_adapter()
    assert torch.equal(made(pair.ours), plain)


def test_scales_adapters_and_pictures_are_the_oracles(pair: Pair) -> None:
    seen: list[Tensor] = []
    pair.load("base", "plus")
    for scale, images in (
        ([0.4, 1.3], [A, B]),
        ([{"up": {"block_1": [0.0, 1.0]}, "mid": 0.7}, {"down": {"block_0": 0.5}}], [A, [B, C]]),
        ([0.0, {"down": 1.0, "up": [0.5, 0.0]}], [[A, B], C]),
    ):
        pair.scale(scale)
        far, ours = pair.differences(ip_adapter_image=images)
        assert far < 1e-4, scale
        seen.append(ours)
    assert all((one - other).abs().max() > 1e-3 for one, other in pairwise(seen))
    with pytest.raises(UsageError, match="1 scales for 2 IP-Adapters"):
        pair.ours.set_ip_adapter_scale(0.5)


def test_embeddings_are_the_oracles_and_stand_for_pictures(pair: Pair) -> None:
    """As they are prepared, and as they are given: one for all prompts, or one for each."""
    pair.load("base", "full")
    for images, count, guided in (([A, B], 1, True), ([[A, C], B], 3, False)):
        asked: Any = (images, None, torch.device("cpu"), count, guided)
        ours, theirs = (pipe.prepare_ip_adapter_image_embeds(*asked) for pipe in (pair.ours, pair.theirs))
        assert [one.shape for one in ours] == [one.shape for one in theirs]
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))
    for states in (False, True):
        ours, theirs = (pipe.encode_image(A, "cpu", 2, states) for pipe in (pair.ours, pair.theirs))
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))
    embeds = pair.ours.prepare_ip_adapter_image_embeds([A, B], None, None, 1, True)
    assert torch.equal(made(pair.ours, ip_adapter_image_embeds=embeds), made(pair.ours, ip_adapter_image=[A, B]))
    prompts = ["a cat", "a dog"]
    assert pair.differences(prompt=prompts, ip_adapter_image=[A, B])[0] < 1e-4
    # A picture a prompt, which the reference mixes up: each is what it is by itself.
    other = pair.ours.prepare_ip_adapter_image_embeds([B, C], None, None, 1, True)
    both = [torch.stack([x[0], y[0], x[1], y[1]]) for x, y in zip(embeds, other, strict=True)]
    together = made(pair.ours, prompt=prompts, ip_adapter_image_embeds=both, generator=seeds(0, 1))
    for k, own in enumerate((embeds, other)):
        alone = made(pair.ours, prompt=prompts[k], ip_adapter_image_embeds=own, generator=seeds(k))
        assert torch.allclose(together[k], alone[0], atol=1e-5)


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def test_a_mask_of_another_shape_is_stretched_and_told(pair: Pair) -> None:
    """Of sides that were rounded nothing is said. The reference warns too, and goes on with rows of another length."""
    pair.load("base")
    pipe, image = pair.ours, picture(48, 40)
    mask = torch.zeros(1, 1, 40, 48)
    mask[..., :20] = 1.0

    def masked(size: tuple[int, int]) -> Tensor:
        sized = torch.nn.functional.interpolate(mask, size=size)
        asked = {"ip_adapter_image": A, "cross_attention_kwargs": {"ip_adapter_masks": [sized]}}
        return made(pipe, image=image, **asked)

    wanted = masked((40, 48))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in ((20, 24), (41, 48), (40, 49)):
            masked(size)
    with pytest.warns(UserWarning, match="mask of 48 x 20, which is stretched to the picture's 24 x 20 latents"):
        assert torch.allclose(masked((20, 48)), wanted, atol=1e-4)
    with pytest.raises(UsageError, match=r"holds \(1, 1, 0, 5\)"):
        made(pipe, ip_adapter_image=A, cross_attention_kwargs={"ip_adapter_masks": [torch.zeros(1, 1, 0, 5)]})


def test_masks_are_the_oracles(pair: Pair) -> None:
    pair.load("base", "plus")
    image = picture(48, 40)
    left = torch.zeros(1, 1, 40, 48)
    left[..., :20] = 1.0
    half = torch.rand(1, 2, 20, 24, generator=torch.Generator().manual_seed(1))
    seen: list[Tensor] = []
    for masks, images, scale in (
        ([left, 1 - left], [A, B], [1.0, 0.8]),
        (torch.cat([left, 1 - left]), [A, B], [1.0, 0.8]),
        ([left, None], [A, B], [1.0, 0.8]),
        ([half, left], [[A, C], B], [[0.3, 1.2], 1.0]),
    ):
        pair.scale(scale)
        asked = {"ip_adapter_image": images, "cross_attention_kwargs": {"ip_adapter_masks": masks}}
        far, ours = pair.differences(image=image, **asked)
        assert far < 1e-4
        seen.append(ours)
    assert torch.equal(seen[0], seen[1])
    assert (seen[0] - seen[2]).abs().max() > 1e-3
    with pytest.raises(UsageError, match="2 scales for 2 pictures; expected one; without masks"):
        made(pair.ours, image=image, ip_adapter_image=[[A, C], B])
