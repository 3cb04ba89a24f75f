"""Warnings of the library point at the line of whoever called it, so that they are found, and told once a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sdedit_cli import StableDiffusionImg2ImgPipeline

CASES: dict[str, dict[str, Any]] = {
    "taken as already": {"prompt": "a", "image": torch.rand(1, 3, 64, 64) * 2 - 1},
    "are repeated": {"prompt": ["a"] * 4, "image": torch.rand(2, 3, 64, 64)},
    "this was cut": {"prompt": "cat " * 100, "image": torch.rand(1, 3, 64, 64)},
}


@pytest.mark.parametrize("words", CASES)
def test_a_warning_points_at_the_caller(words: str) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained("built-in")
    with pytest.warns(match=words) as warned:
        pipe(num_inference_steps=2, **CASES[words])
    assert [Path(one.filename).name for one in warned] == [Path(__file__).name]
