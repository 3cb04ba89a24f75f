"""Rounds: `--repeats` is the library's runs chained by hand through latents, counted as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint
from PIL import Image

from sdedit_cli import Scheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.company import Result, Wish
from sdedit_cli.engine.editor import Editor
from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit

EDIT = Edit(prompt="a cat", steps=5, strength=0.6, dtype="fp32", device="cpu", seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder, "sd15")
    return folder


@pytest.fixture(scope="module")
def editor(folder: Path) -> Editor:
    return Editor.open(replace(EDIT, model=str(folder)))


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def pixels(editor: Editor, edit: Edit, mask: Image.Image | None = None) -> np.ndarray:
    return np.asarray(editor.edit(edit, picture(), mask=mask).image)


@pytest.mark.parametrize(
    ("sampler", "strengths"),
    [
        ("ddim", (0.6, 0.6, 0.6)),
        ("pndm", (0.8, 0.6, 0.4)),
        ("heun", (0.8, 0.6, 0.4)),
        ("euler_a", (0.6, 0.6, 0.6)),
        ("dpmpp_sde", (0.8, 0.6, 0.4)),
    ],
)
def test_three_rounds_are_three_runs_through_latents(
    editor: Editor, pipe: Any, sampler: str, strengths: tuple[float, ...]
) -> None:
    """One generator for all of them: each begins with new noise."""
    pipe.scheduler = Scheduler.over(dict(pipe.scheduler.settings.given), sampler)
    generator = torch.Generator().manual_seed(EDIT.seed or 0)
    image: Any = picture()
    for k, strength in enumerate(strengths):
        image = pipe(
            "a cat",
            image=image,
            strength=strength,
            num_inference_steps=5,
            generator=generator,
            output_type="latent" if k < 2 else "pil",
        ).images
    wanted = np.asarray(image[0])
    asked = "0.8..0.4" if strengths[0] == 0.8 else 0.6
    found = pixels(editor, replace(EDIT, sampler=sampler, strength=asked, repeats=3))
    assert np.array_equal(found, wanted)


def test_a_list_and_a_ramp_name_the_same_rounds_and_one_round_is_none(editor: Editor) -> None:
    ramp = pixels(editor, replace(EDIT, strength="0.8..0.4", repeats=3))
    assert np.array_equal(pixels(editor, replace(EDIT, strength="0.8,0.6,0.4")), ramp)
    assert not np.array_equal(pixels(editor, replace(EDIT, strength=0.8)), ramp)
    assert np.array_equal(pixels(editor, replace(EDIT, repeats=1)), pixels(editor, EDIT))


def test_the_same_noise_is_that_of_the_first_round(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by what the solver of no noise of its own draws: once for all, or once a round."""
    drawn = {}
    for same in (True, False):
        wish = Wish(replace(EDIT, repeats=3, same_noise=same), picture())
        track = editor.track(wish.edit, wish.pixels(editor._area(wish), editor.engine.components.vae.config))
        before = track.generator.get_state()
        *_, _last = editor.engine.steps(track)
        drawn[same] = not torch.equal(before, track.generator.get_state())
    assert drawn == {True: False, False: True}
    assert not np.array_equal(
        pixels(editor, replace(EDIT, repeats=2, same_noise=True)), pixels(editor, replace(EDIT, repeats=2))
    )


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_steps_are_counted_over_all_rounds(editor: Editor, sampler: str) -> None:
    seen: list[tuple[int, int]] = []
    edit = replace(EDIT, sampler=sampler, strength="0.8,0.4", repeats=2)
    editor.edit(edit, picture(), lambda done, steps, _: seen.append((done, steps)))
    assert seen == [(k, 6) for k in range(1, 7)]
    assert (edit.steps_run(), edit.extent()) == (6, "6 steps (2 rounds, strength 0.8, 0.4)")


def test_rounds_in_company_are_as_they_are_alone(editor: Editor) -> None:
    edits = [
        replace(EDIT, repeats=2),
        replace(EDIT, strength=0.9, seed=4),
        replace(EDIT, sampler="heun", strength="0.8,0.4", seed=5),
        replace(EDIT, prompt="[a cat:a dog:0.5]", repeats=3, seed=6),
    ]
    wishes = [Wish(edit, picture()) for edit in edits]
    together = {wish: pixels_of(result) for wish, result in editor.edits(wishes, 3)}
    for wish in wishes:
        ((_, alone),) = editor.edits([wish], 3)
        assert np.array_equal(together[wish], pixels_of(alone))


def pixels_of(result: object) -> np.ndarray:
    assert isinstance(result, Result)
    return np.asarray(result.image)


@pytest.mark.parametrize("mode", ["map", "blend"])
def test_masks_hold_in_every_round(editor: Editor, mode: str) -> None:
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 32))
    mask.paste(80, (16, 0, 24, 32))
    edit = replace(EDIT, strength="0.4,0.9", mask_mode=mode)
    before, after = np.asarray(picture()), pixels(editor, edit, mask)
    assert np.array_equal(after[:, 24:], before[:, 24:])
    assert (after[:, :24] != before[:, :24]).any((0, 2)).all()
    assert np.array_equal(pixels(editor, edit, Image.new("L", (32, 32), 255)), pixels(editor, edit))
    # Too dark for a step of the first round, and not for one of the second.
    even = Image.new("L", (32, 32), 80)
    if mode == "map":
        weaker = replace(edit, strength=80 / 255 * 0.9)
        assert np.array_equal(pixels(editor, edit, even), pixels(editor, weaker))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"strength": "0.8..0.4"}, "strength is 0.8..0.4, of 2 and more rounds, and repeats is 1"),
        ({"strength": "0.8,0.4", "repeats": 3}, "of 2 rounds, and repeats is 3"),
        ({"strength": "0.8,7"}, "expected a number above 0 and at most 1"),
        ({"strength": "0.8,"}, "expected a number above 0 and at most 1"),
        ({"strength": "0.8,0.01", "steps": 10}, "strength 0.01 of 10 steps runs no step"),
        ({"repeats": 0}, "repeats is 0"),
    ],
    ids=str,
)
def test_rounds_that_cannot_be_are_said(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        Edit(**values)


def test_strengths_travel_through_records() -> None:
    for strength in ("0.8,0.6", "0.8..0.4"):
        edit = Edit(strength=strength, repeats=2)
        assert Edit(**edit.saved()) == edit
        assert edit != Edit(strength=0.8, repeats=2)
    assert [one.strength for one in Edit(strength="1..0.5", repeats=3).rounds()] == [1.0, 0.75, 0.5]
    assert not {"repeats", "same_noise"} & set(Edit(same_noise=True).saved())
