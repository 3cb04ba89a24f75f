"""Masks: what is black stays byte for byte; white, black and even gray are runs that we know; a map of two levels is
Differential Diffusion (arXiv 2306.00950) as its paper has it; a blend is algorithm 2 of SDEdit (arXiv 2108.01073).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from helpers.pipelines import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sdedit_cli.engine.company import Result, Wish
from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.masks import starts
from sdedit_cli.engine.sampling import grid_of
from sdedit_cli.noise.solvers import SOLVERS
from sdedit_cli.options import Edit

EDIT = Edit(prompt="a cat", steps=6, strength=0.9, dtype="fp32", device="cpu", seed=3)
SIZE = (40, 32)
GRAY = 128

# The oracle's own notices.
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*:{kind}Warning") for kind in ("Future", "Deprecation")]


@pytest.fixture(scope="module")
def editor(folder: Path, oracle: Any) -> Editor:
    return Editor.open(replace(EDIT, model=str(folder)))


def even(level: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new("L", size, level)


def halves(left: int, right: int, size: tuple[int, int] = SIZE) -> Image.Image:
    mask = even(right, size)
    mask.paste(left, (0, 0, size[0] // 2, size[1]))
    return mask


def pixels(editor: Editor, edit: Edit, mask: Image.Image | None = None) -> np.ndarray:
    result = editor.edit(edit, picture(*SIZE), mask=mask)
    assert result.finite
    return np.asarray(result.image).astype(int)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_even_masks_are_runs_without_one_and_black_is_kept_by_every_sampler(editor: Editor, sampler: str) -> None:
    edit = replace(EDIT, sampler=sampler)
    plain, before = pixels(editor, edit), np.asarray(picture(*SIZE)).astype(int)
    weaker = replace(edit, strength=GRAY / 255 * edit.strength)
    assert 0 < weaker.steps_run() < edit.steps_run(), "else gray shows nothing"
    assert np.array_equal(pixels(editor, edit, even(255)), plain)
    assert np.array_equal(pixels(editor, edit, even(GRAY)), pixels(editor, weaker))
    assert np.array_equal(pixels(editor, edit, even(0)), before)
    half = pixels(editor, edit, halves(255, 0))
    assert np.array_equal(half[:, SIZE[0] // 2 :], before[:, SIZE[0] // 2 :])
    assert np.abs(half - before)[:, : SIZE[0] // 2].max() > 3
    blended = pixels(editor, replace(edit, mask_mode="blend"), even(255))
    assert np.array_equal(blended, plain)


def test_even_gray_is_the_plain_run_where_prompts_change_and_steps_are_exact(editor: Editor) -> None:
    compared = 0
    for changes in ({"prompt": "[a cat:a dog:0.5]"}, {"exact_steps": True}, {"eta": 0.5}):
        edit = replace(EDIT, **changes)
        weaker = replace(edit, strength=GRAY / 255 * edit.strength)
        assert np.array_equal(pixels(editor, edit, even(GRAY)), pixels(editor, weaker)), changes
        compared += 1
    assert compared == 3


class Paper:
    """Differential Diffusion from its algorithm 1, and SDEdit's algorithm 2, over the oracle's networks and schedulers.

    One row, guided as the oracle guides; latents (1, 4, h, w).
    """

    def __init__(self, pipe: Any, scheduler: Any, steps: int, strength: float) -> None:
        self.pipe, self.scheduler = pipe, scheduler
        scheduler.set_timesteps(steps)
        self.first = steps - int(steps * strength)
        self.steps = steps
        tokens = [
            pipe.tokenizer(text, padding="max_length", max_length=32, return_tensors="pt").input_ids
            for text in ("", "a cat")
        ]
        self.text = torch.cat([pipe.text_encoder(ids)[0] for ids in tokens])

    def encoded(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        x = torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        vae = self.pipe.vae
        return vae.encode(x).latent_dist.sample(generator) * vae.config.scaling_factor

    def _begin(self) -> None:
        if hasattr(self.scheduler, "set_begin_index"):  # one that works by timestep needs none
            self.scheduler.set_begin_index(self.first)

    def noised(self, x0: Tensor, noise: Tensor, at: int) -> Tensor:
        if at == self.steps:
            return x0
        return self.scheduler.add_noise(x0, noise, self.scheduler.timesteps[at : at + 1])

    def denoised(self, x: Tensor, at: int) -> Tensor:
        t = self.scheduler.timesteps[at]
        shown = self.scheduler.scale_model_input(torch.cat([x, x]), t)
        low, high = self.pipe.unet(shown, t, encoder_hidden_states=self.text).sample.chunk(2)
        return self.scheduler.step(low + 7.5 * (high - low), t, x).prev_sample

    def mapped(self, x0: Tensor, noise: Tensor, strengths: Tensor) -> Tensor:
        """`strengths` (h, w): the share of the schedule that each cell takes part in."""
        self._begin()
        x = self.noised(x0, noise, self.first)
        for at in range(self.first, self.steps):
            # The cell is still the input's at the step where a plain edit of its strength would begin.
            is_free = 1 - at / self.steps < (strengths * self.steps).floor() / self.steps - 1e-6
            x = torch.where(is_free, x, self.noised(x0, noise, at))
            x = self.denoised(x, at)
        return torch.where((strengths * self.steps).floor() >= 1, x, x0)

    def blended(self, x0: Tensor, noise: Tensor, edited: Tensor, fresh: torch.Generator) -> Tensor:
        self._begin()
        x = self.noised(x0, noise, self.first)
        for at in range(self.first, self.steps):
            x = self.denoised(x, at)
            z = torch.randn(x.shape, generator=fresh) if at + 1 < self.steps else noise
            x = (1 - edited) * self.noised(x0, z, at + 1) + edited * x
        return x


PAPERS = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
}


@pytest.mark.parametrize("sampler", PAPERS)
@pytest.mark.parametrize("levels", [(255, 128), (200, 0)])
@torch.no_grad()
def test_a_map_of_two_levels_is_the_published_method(
    folder: Path, oracle: Any, editor: Editor, sampler: str, levels: tuple[int, int]
) -> None:
    name, options = PAPERS[sampler]
    edit, image, mask = replace(EDIT, sampler=sampler), picture(*SIZE), halves(*levels)
    whitest = max(levels) / 255 * edit.strength
    paper = Paper(
        oracle, getattr(diffusers, name).from_pretrained(folder / "scheduler", **options), edit.steps, whitest
    )
    generator = torch.Generator().manual_seed(EDIT.seed or 0)
    x0 = paper.encoded(image, generator)
    noise = torch.randn(x0.shape, generator=generator)
    strengths = torch.from_numpy(np.array(mask.resize((x0.shape[3], x0.shape[2]), Image.Resampling.BOX)) / 255)
    wanted = paper.mapped(x0, noise, strengths * edit.strength)
    found = latents(editor, edit, image, mask)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()
    other = latents(editor, edit, image, even(max(levels)))
    assert (other - wanted).abs().max() > 1e-2 * wanted.abs().max(), "a mask that does nothing shows nothing"


@torch.no_grad()
def test_a_blend_is_the_method_of_sdedit(folder: Path, oracle: Any, editor: Editor) -> None:
    edit, image, mask = replace(EDIT, mask_mode="blend"), picture(*SIZE), halves(255, 51)
    paper = Paper(oracle, diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"), edit.steps, edit.strength)
    generator = torch.Generator().manual_seed(EDIT.seed or 0)
    x0 = paper.encoded(image, generator)
    noise = torch.randn(x0.shape, generator=generator)
    # The noise of blending comes from a generator of its own, which the editor makes of the seed.
    area = editor._area(Wish(edit, image, mask=mask))
    blend = editor.track(edit, seen_by(editor, Wish(edit, image, mask=mask), area), area).blend
    edited = torch.from_numpy(np.array(mask.resize((x0.shape[3], x0.shape[2]), Image.Resampling.BOX)) / 255).float()
    wanted = paper.blended(x0, noise, edited, blend.generator)
    assert (latents(editor, edit, image, mask) - wanted).abs().max() < 1e-3 * wanted.abs().max()


def seen_by(editor: Editor, wish: Wish, area: Any) -> Tensor:
    return wish.pixels(area, editor.engine.components.vae.config)


def latents(editor: Editor, edit: Edit, image: Image.Image, mask: Image.Image) -> Tensor:
    wish = Wish(edit, image, mask=mask)
    area = editor._area(wish)
    *_, last = editor.engine.steps(editor.track(edit, seen_by(editor, wish, area), area))
    return last.x_BCHW


def test_masks_do_not_feel_their_company(editor: Editor) -> None:
    size = (32, 32)
    kinds = [
        (halves(255, 0, size), "ddim", "map"),
        (None, "heun", "map"),
        (halves(90, 255, size), "euler_a", "blend"),
        (even(0, size), "ddim", "map"),
        (halves(0, 160, size), "pndm", "map"),
    ]
    wishes = [
        Wish(replace(EDIT, seed=k, sampler=sampler, mask_mode=mode), picture(*size), mask=mask)
        for k, (mask, sampler, mode) in enumerate(kinds)
    ]
    together = {wish: pixels_of(result) for wish, result in editor.edits(wishes, 3)}
    for wish in wishes:
        ((_, alone),) = editor.edits([wish], 3)
        assert np.array_equal(together[wish], pixels_of(alone))


def pixels_of(result: object) -> np.ndarray:
    assert isinstance(result, Result)
    return np.asarray(result.image)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_black_is_kept_whatever_the_mask_and_the_size(editor: Editor, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    blocks = rng.choice([0, 0, 0, 40, 255], (4, 4)).astype(np.uint8)
    mask = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
    edit = replace(
        EDIT,
        steps=2,
        masked_area=data.draw(st.sampled_from(["whole", "crop"])),
        mask_mode=data.draw(st.sampled_from(["map", "blend"])),
        mask_feather=data.draw(st.integers(0, 5)),
        mask_padding=data.draw(st.integers(0, 9)),
    )
    native = data.draw(st.sampled_from([None, 32]))
    image = picture(*size)
    found = Editor(editor.engine, native_size=native).edit(edit, image, mask=mask).image
    assert found.size == size
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(found)[kept], np.asarray(image)[kept])


def test_levels_start_where_an_edit_of_their_strength_would(editor: Editor) -> None:
    for sampler in ("ddim", "heun", "pndm"):
        scheduler = editor.scheduler_for(edit := replace(EDIT, sampler=sampler, steps=10))
        grid, first = grid_of(scheduler, edit)
        found = starts(grid, edit.strength)
        assert found[255] == first
        assert found[0] == found[20] == len(grid.timesteps)  # 20 of 255 of 9 steps are none
        assert found[GRAY] == grid_of(scheduler, replace(edit, strength=GRAY / 255 * 0.9))[1]


def test_a_crop_is_worked_on_at_the_models_size_and_a_feather_stays_inside(editor: Editor) -> None:
    image = picture(64, 64)
    mask = even(0, (64, 64))
    mask.paste(255, (24, 24, 40, 40))
    edit = replace(EDIT, masked_area="crop", mask_padding=4)
    grown = Editor(editor.engine, native_size=48)
    area = grown._area(Wish(edit, image, mask=mask))
    assert (area.box, area.canvas.work) == ((20, 20, 44, 44), (48, 48))
    hard, soft = (np.asarray(grown.edit(replace(edit, mask_feather=f), image, mask=mask).image) for f in (0, 3))
    differs = (hard != soft).any(-1)
    assert differs[24:27, 24:40].any()
    assert not differs[27:37, 27:37].any()
