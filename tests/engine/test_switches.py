"""Every switch gives the oracle's picture with the same switch; its opposite gives the first picture bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError

# The oracle expects callers to repeat pictures themselves, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning")
FREEU = {"s1": 0.9, "s2": 0.2, "b1": 1.3, "b2": 1.4}
SWITCHES: dict[str, tuple[str, dict[str, Any], str]] = {
    "attention slicing, auto": ("enable_attention_slicing", {}, "disable_attention_slicing"),
    "attention slicing, max": ("enable_attention_slicing", {"slice_size": "max"}, "disable_attention_slicing"),
    "attention slicing, 2": ("enable_attention_slicing", {"slice_size": 2}, "disable_attention_slicing"),
    "vae slicing": ("enable_vae_slicing", {}, "disable_vae_slicing"),
    "vae tiling": ("enable_vae_tiling", {}, "disable_vae_tiling"),
    "freeu": ("enable_freeu", FREEU, "disable_freeu"),
    "fused": ("fuse_qkv_projections", {}, "unfuse_qkv_projections"),
    "fused unet": ("fuse_qkv_projections", {"vae": False}, "unfuse_qkv_projections"),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("sd15")
    oracle = write_checkpoint(folder, "sd15")
    return oracle, StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def edit(pipe: Any) -> np.ndarray:
    # 48 px is more than the 32 px that this autoencoder calls a tile.
    call = {"prompt": ["a cat", "a dog"], "image": picture(48, 48), "num_inference_steps": 4, "output_type": "np"}
    return pipe(**call, strength=0.6, generator=torch.Generator().manual_seed(1)).images


def turn(pipe: Any, method: str, **options: Any) -> None:
    """Calls the switch; the oracle has those of the autoencoder on the autoencoder itself by now."""
    if hasattr(pipe, method):
        getattr(pipe, method)(**options)
    else:
        getattr(pipe.vae, method.replace("_vae", ""))(**options)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_matches_the_oracle_and_is_undone_exactly(pair: tuple[Any, Any], name: str) -> None:
    on, options, off = SWITCHES[name]
    oracle, ours = pair
    before = edit(ours)
    for pipe in pair:
        turn(pipe, on, **options)
    try:
        theirs, switched = edit(oracle), edit(ours)
    finally:
        turn(ours, off)
        turn(oracle, off)
    np.testing.assert_allclose(switched, theirs, atol=1e-4, rtol=0)
    assert np.array_equal(edit(ours), before)


@pytest.mark.parametrize("what", ["tiling", "slicing"])
def test_the_autoencoders_own_switches_are_those_of_the_pipeline(pair: tuple[Any, Any], what: str) -> None:
    """Newer releases of the reference have these alone."""
    oracle, ours = pair
    for vae in (oracle.vae, ours.vae):
        getattr(vae, f"enable_{what}")()
    assert getattr(ours.vae.pieces, what)
    assert getattr(oracle.vae, f"use_{what}")
    np.testing.assert_allclose(edit(ours), edit(oracle), atol=1e-4, rtol=0)
    for vae in (oracle.vae, ours.vae):
        getattr(vae, f"disable_{what}")()
    assert not getattr(ours.vae.pieces, what)


def test_freeu_takes_numbers_alone(pair: tuple[Any, Any]) -> None:
    for wrong in ("x", None, float("nan")):
        with pytest.raises(UsageError, match="s1 is"):
            pair[1].enable_freeu(wrong, 0.2, 1.1, 1.2)


def test_offloading_gives_the_same_picture_and_ends_clean(pair: tuple[Any, Any]) -> None:
    _, ours = pair
    before = edit(ours)
    ours.enable_model_cpu_offload(device="cpu")
    assert np.array_equal(edit(ours), before)
    ours.to(torch.float32)
    assert ours.engine.offload is not None, "a precision alone says nothing of where networks are"
    ours.to("cpu")
    assert ours.engine.offload is None
    assert np.array_equal(edit(ours), before)


def test_what_is_not_here_is_said(pair: tuple[Any, Any]) -> None:
    _, ours = pair
    with pytest.raises(UsageError, match="5 does not fit"):
        ours.enable_attention_slicing(5)
    with pytest.raises(UsageError, match="xformers"):
        ours.enable_xformers_memory_efficient_attention()
    if not torch.cuda.is_available():
        for nothing in ((), (0,), (None, None), (0, None)):
            with pytest.raises(UsageError, match=r"device 'cuda.*' is not there"):
                ours.enable_model_cpu_offload(*nothing)
