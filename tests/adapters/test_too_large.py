"""What an adapter adds may be finite where it is computed, and too large for the weights that it is added to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError

KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("dtype", "size", "fits"), [("float16", 1e6, False), ("float16", 1e3, True), ("float32", 1e6, True)]
)
def test_weights_that_would_overflow_are_refused_and_nothing_changes(
    folder: Path, dtype: str, size: float, fits: bool
) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=dtype)
    weight = pipe.unet.get_submodule(KEY.removeprefix("unet.")).weight
    before = weight.clone()
    adapter = {
        f"{KEY}.lora_A.weight": torch.ones(1, weight.shape[1]),
        f"{KEY}.lora_B.weight": torch.ones(len(weight), 1) * size,
    }
    if fits:
        pipe.load_lora_weights(adapter)
        assert not weight.equal(before)
        assert bool(torch.isfinite(weight).all())
        return
    with pytest.raises(ModelError, match="too large for float16; nothing was changed"):
        pipe.load_lora_weights(adapter)
    assert weight.equal(before)
    assert not pipe.get_list_adapters()


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("strength", [1e4, 1e39])
def test_strengths_that_make_float32_overflow_are_refused_by_their_number(
    folder: Path, kind: str, strength: float
) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    weight = pipe.unet.get_submodule(KEY.removeprefix("unet.")).weight
    before = weight.clone()
    size = 1e36
    adapter = {f"lora_{KEY.replace('.', '_')}.diff": torch.full_like(weight, size).detach()}
    if kind == "lora":
        up = torch.ones(len(weight), 1) * size
        adapter = {f"{KEY}.lora_A.weight": torch.ones(1, weight.shape[1]), f"{KEY}.lora_B.weight": up}
    pipe.load_lora_weights(adapter, adapter_name="a")
    with pytest.raises(ModelError, match=rf"at the strength {re.escape(f'{strength:g}')} .* Take a smaller strength"):
        pipe.set_adapters("a", strength)
    assert bool(torch.isfinite(weight).all())
    pipe.unload_lora_weights()
    assert weight.equal(before)
