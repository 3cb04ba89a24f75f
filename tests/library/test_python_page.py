"""The code of docs/python.md runs as it stands, from top to bottom, on a tiny model; what it promises is there."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pipelines import picture, write_checkpoint

import sdedit_cli
from sdedit_cli.weights.write.convert import convert

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SAME = PAGE.split("## What is the same")[1].split("## What differs")[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the page names, on a machine without a GPU."""
    write_checkpoint(tmp_path / "path" / "to" / "model")
    convert(tmp_path / "path" / "to" / "model", tmp_path / "path" / "to" / "model.safetensors")
    picture(96, 80).save(tmp_path / "sketch.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


def test_every_block_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert len(BLOCKS) >= 6
    for number, block in enumerate(BLOCKS):
        code = compile(block, f"docs/python.md, block {number}", "exec")
        exec(code, names)
    told = capsys.readouterr()
    assert "DPMSolver" not in told.out
    assert "EulerDiscreteScheduler" in told.out
    assert "torch.Size([4, 3, 64, 64])" in told.out
    assert "editing: 100%" in told.err
    assert names["image"].size == (64, 64)
    assert (place / "landscape.png").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle's notices
        from diffusers import StableDiffusionImg2ImgPipeline

        oracle = StableDiffusionImg2ImgPipeline.from_pretrained(place / "saved")
    assert type(oracle.scheduler).__name__ == "EulerDiscreteScheduler"


def test_what_the_page_says_is_the_same_is_there(place: Path) -> None:
    pipe = sdedit_cli.StableDiffusionImg2ImgPipeline.from_pretrained(place / "path" / "to" / "model")
    promised = re.findall(r"`([a-z_]+)`", SAME.replace("`.postprocess`", ""))
    assert len(promised) > 15
    for name in promised:
        assert hasattr(pipe, name) or hasattr(pipe.scheduler, name), name
