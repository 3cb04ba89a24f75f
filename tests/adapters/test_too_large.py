"""What an adapter adds may be finite where it is computed, and too large for the weights that it is added to."""

from __future__ import annotations

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
