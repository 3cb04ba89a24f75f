"""A tiny checkpoint of the reference's shapes, for whatever is loaded onto it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pipelines import write_checkpoint

from sdedit_cli import StableDiffusionImg2ImgPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    write_checkpoint(place, "sd15")
    return place


@pytest.fixture
def pipe(folder: Path) -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)
