"""A tiny checkpoint of the reference's shapes, and a pipeline of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pipelines import write_checkpoint

from sdedit_cli import StableDiffusionImg2ImgPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder)
    return folder


@pytest.fixture
def pipe(folder: Path) -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)
