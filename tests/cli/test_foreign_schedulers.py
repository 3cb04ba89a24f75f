"""A model whose scheduler's file is missing, or of a class that is not known here, and a sampler that is asked for."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, photo, sdedit
from PIL import Image

from sdedit_cli import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError
from sdedit_cli.weights.write.convert import convert

Model = Callable[[str | None], Path]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The built-in model with its scheduler's class replaced, or (None) without the file."""

    def made(name: str | None) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(BUILT_IN, folder)
        path = folder / "scheduler" / "scheduler_config.json"
        if name is None:
            path.unlink()
        for file, change in ((path, {"_class_name": name}), (folder / "model_index.json", {"scheduler": ["x", name]})):
            if name is not None:
                file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        return folder

    return made


@pytest.mark.parametrize("name", ["IPNDMScheduler", "SASolverScheduler", None])
def test_it_matters_only_where_no_sampler_is_asked_for(
    name: str | None, model: Model, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    arguments = ["a.png", "-m", str(model(name)), *QUICK]
    for more in ([], ["--dry-run"]):
        assert run(["run", *arguments, *more]) == 3
        assert "scheduler" in capsys.readouterr().err
    assert run(["run", *arguments, "--sampler", "euler", "--dry-run"]) == 0
    done = sdedit("run", *arguments, "--sampler", "euler", "-o", "foreign.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = sdedit("run", "a.png", *QUICK, "--sampler", "euler", "-o", "own.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    if name is not None:  # its betas and prediction type are read although its class is not known
        assert _pixels(folder / "foreign.png") == _pixels(folder / "own.png")


def _pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


@pytest.mark.parametrize("name", ["IPNDMScheduler", None])
def test_the_library_takes_another_scheduler_in_its_place(name: str | None, model: Model) -> None:
    folder = model(name)
    with pytest.raises(ModelError, match=r"scheduler") as refused:
        StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    assert name is None or "`scheduler=`" in str(refused.value)
    own = EulerDiscreteScheduler.from_pretrained("built-in", subfolder="scheduler")
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, scheduler=own)
    assert pipe.scheduler == own.modernised()
    if name is not None:
        assert EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler") == own
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert pipe("a", picture, num_inference_steps=2, strength=0.5, output_type="pt").images.isfinite().all()


@pytest.mark.parametrize(
    ("name", "broken", "told"),
    [
        ("DDIMScheduler", {"steps_offset": "one"}, "'steps_offset' is 'one', expected int"),
        ("UniPCMultistepScheduler", {"solver_order": 9}, "solver_order is 9"),
        (
            "EulerDiscreteScheduler",
            {"use_karras_sigmas": True, "use_beta_sigmas": True},
            "the schedules karras and beta are both on",
        ),
    ],
)
def test_a_broken_config_is_named_by_its_own_file(
    name: str, broken: dict[str, Any], told: str, model: Model, tmp_path: Path
) -> None:
    """Also where it lies beside a single file, in the folder that tells of it; and where what is wrong with it would be
    a wrong wish elsewhere."""
    folder, single = model(name), tmp_path / "model.safetensors"
    convert(folder, single)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **broken}))
    named = rf"^{re.escape(str(path))}: {told}"
    with pytest.raises(ModelError, match=named):
        StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    with pytest.raises(ModelError, match=named):
        StableDiffusionImg2ImgPipeline.from_single_file(single, config=folder)
