"""Sketches show what the autoencoder would, and are learnt once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny.networks import tiny_taesd
from PIL import Image

from sdedit_cli.engine.company import Preview
from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.families.sd import SD
from sdedit_cli.engine.image import postprocess
from sdedit_cli.engine.sketch import Sketcher, fingerprint
from sdedit_cli.noise import CLASS_NAMES, SOLVERS, Scheduler
from sdedit_cli.noise.scheduler import STABLE_DIFFUSION
from sdedit_cli.options import Edit

_CLASSES = {name: class_name for class_name, name in CLASS_NAMES.items()}


def _said(kind: str, x0: torch.Tensor, noise: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """What a model that is right says."""
    if kind == "v_prediction":
        return alpha * noise - sigma * x0
    return noise if kind == "epsilon" else x0


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_what_a_model_that_is_right_sees_is_the_picture(solver: str) -> None:
    """Whatever a sampler's latents are, and whatever the model says of them."""
    told = 0
    for kind in SOLVERS[solver].predictions:
        if solver == "edm_euler" or kind not in ("epsilon", "v_prediction", "sample"):
            continue  # EDM tells its model of the noise in another way: its own test
        said = {**STABLE_DIFFUSION, "_class_name": _CLASSES[solver], "prediction_type": kind}
        scheduler = Scheduler.from_config(said)
        grid = scheduler.grid(8)
        generator = torch.Generator().manual_seed(0)
        x0, noise = (torch.randn(1, 4, 3, 3, generator=generator) for _ in range(2))
        for i in (1, 4, 7):
            x = scheduler.add_noise(grid, i, x0, noise)
            level = float(grid.sigmas[i])
            if scheduler.solver.space == "table":
                bar = float(scheduler.process.alphas_cumprod[grid.nodes[i]])
                level = ((1 - bar) / bar) ** 0.5
            alpha = 1 / (level**2 + 1) ** 0.5
            out = _said(kind, x0, noise, alpha, level * alpha)
            assert torch.allclose(scheduler.predicted(grid, i, x, out), x0, atol=2e-4), (kind, i)
            told += 1
    assert told >= 3 or solver == "edm_euler"


def test_edm_sees_what_its_step_goes_to() -> None:
    """The last step, to a noise of zero, is the prediction itself."""
    scheduler = Scheduler.named("edm_euler")
    grid = scheduler.grid(4)
    x, out = (torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    last, _ = scheduler.step(grid, 3, x, out, scheduler.start(grid, 3, x))
    assert torch.allclose(scheduler.predicted(grid, 3, x, out), last, atol=1e-5)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.open(Edit(dtype="fp32", device="cpu"))


def _edit(editor: Editor, **more: Any) -> list[tuple[Image.Image, Image.Image]]:
    """The sketch and the whole picture after each step of a drawing of a tree."""
    y, x = np.mgrid[0:64, 0:64]
    pixels = np.stack([x * 4, y * 4, 255 - x * 2 - y * 2], axis=-1).astype(np.uint8)
    seen: list[tuple[Image.Image, Image.Image]] = []

    def look(_done: int, _steps: int, preview: Preview) -> None:
        seen.append((preview.sketch(), preview()[0]))

    edit = Edit(prompt="a green tree", seed=3, steps=6, strength=0.9, dtype="fp32", device="cpu", **more)
    editor.edit(edit, Image.fromarray(pixels), look)
    return seen


@pytest.mark.parametrize("sampler", ["ddim", "euler a"])
def test_a_sketch_is_near_what_the_autoencoder_decodes(editor: Editor, sampler: str) -> None:
    seen = _edit(editor, sampler=sampler)
    assert len(seen) == 5
    sketch, whole = seen[-1]
    assert sketch.size == whole.size == (64, 64)
    ours, theirs = (np.asarray(image.resize((16, 16), Image.Resampling.BOX)).ravel() for image in (sketch, whole))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.8
    # What the model sees is a picture from the first step on, when the latents are little but noise.
    first = np.asarray(seen[0][0].resize((16, 16), Image.Resampling.BOX)).ravel()
    assert np.corrcoef(first, theirs)[0, 1] > 0.4


def test_the_numbers_of_an_autoencoder_are_found_once_and_known_by_its_weights(editor: Editor) -> None:
    family, vae = editor.engine.family, editor.engine.components.vae
    found: list[str] = []
    kept: dict[str, Any] = {}

    def recall(name: str, find: Any) -> Any:
        if name not in kept:
            found.append(name)
            kept[name] = find()
        return kept[name]

    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures: list[bytes] = []
    for _ in range(2):
        sketcher = Sketcher(family, vae)
        sketcher.recall = recall
        pictures += [sketcher.picture(latents).tobytes() for _ in range(2)]
    assert found == [fingerprint(vae)]
    assert len(set(pictures)) == 1
    bias = vae.decoder.conv_out.bias  # type: ignore[union-attr]
    with torch.no_grad():
        bias[0] += 1
        changed = fingerprint(vae)
        bias[0] -= 1
    assert changed != found[0]


def test_what_is_remembered_of_another_shape_is_found_anew(editor: Editor) -> None:
    sketcher = Sketcher(editor.engine.family, editor.engine.components.vae)
    sketcher.recall = lambda _name, _find: [[0.0, 0.0, 0.0]]
    plain = Sketcher(editor.engine.family, editor.engine.components.vae)
    latents = torch.full((1, 4, 2, 2), float("nan"))
    assert sketcher.picture(latents).tobytes() == plain.picture(latents).tobytes()


def test_a_tiny_autoencoder_decodes_by_itself() -> None:
    """Nothing is fitted, and the picture is its own."""
    vae = tiny_taesd()
    latents = torch.randn(1, vae.config.latent_channels, 5, 6, generator=torch.Generator().manual_seed(0))
    sketcher = Sketcher(SD, vae)
    sketcher.recall = lambda _name, _find: pytest.fail("nothing is fitted")
    with torch.no_grad():
        (whole,) = postprocess(vae.decode(latents), "pil")
    assert sketcher.glimpse(latents)().tobytes() == whole.tobytes()
    assert whole.size == (6 * vae.config.scale, 5 * vae.config.scale)
