"""A tiny checkpoint of Stable Diffusion 1.5, for a module's tests to share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.pipelines import write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sd15")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    return write_checkpoint(folder, "sd15")
