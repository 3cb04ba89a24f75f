"""The editor behind the command line: the library's picture at the input's size, whatever the prompt grammar does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdedit_cli.engine.canvas import advice, canvas_for
from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.loading import STARTER_FOLDER
from sdedit_cli.errors import Interrupted, ModelError
from sdedit_cli.options import Edit

EDIT = Edit(prompt="a cat", steps=4, strength=0.6, dtype="fp32", device="cpu", seed=1)


@pytest.fixture(scope="module")
def editor(folder: Path, oracle: Any) -> Editor:
    return Editor.open(replace(EDIT, model=str(folder)))


def pixels(editor: Editor, edit: Edit = EDIT, image: Image.Image | None = None, seed: int = 3) -> np.ndarray:
    result = editor.edit(replace(edit, seed=seed), image or picture())
    assert result.finite
    return np.asarray(result.image).astype(int)


@pytest.mark.parametrize(
    "changes",
    [
        {"weighting": False},
        {"long_prompts": "chunk"},
        {"prompt": "a c(at:1.0)"},
        {"prompt": "[a cat:a dog:1000]"},
    ],
    ids=str,
)
def test_a_setting_that_changes_nothing_changes_no_bit(editor: Editor, changes: dict[str, Any]) -> None:
    assert np.array_equal(pixels(editor, replace(EDIT, **changes)), pixels(editor))


def test_brackets_are_text_without_weighting(editor: Editor) -> None:
    edit = replace(EDIT, prompt="a (cat:1.5)", weighting=False)
    chunked = replace(edit, long_prompts="chunk")
    assert np.array_equal(pixels(editor, edit), pixels(editor, chunked))


def test_what_was_cut_is_told(folder: Path, oracle: Any) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    editor = Editor.open(replace(EDIT, model=str(folder)), lambda event, facts: heard.append((event, facts)))
    pixels(editor, replace(EDIT, prompt="cat " * 40 + "zebra"))
    assert [event for event, _ in heard] == ["load", "truncated"]
    assert heard[1][1]["text"].endswith("zebra")


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (5, 2), (64, 31)])
def test_the_result_has_the_inputs_size(editor: Editor, size: tuple[int, int]) -> None:
    assert pixels(editor, image=picture(*size)).shape == (size[1], size[0], 3)


def test_a_picture_depends_on_its_seed_and_not_on_those_before(editor: Editor) -> None:
    first, again, other = (pixels(editor, seed=seed) for seed in (6, 6, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_steps_are_counted_as_people_count_them(editor: Editor) -> None:
    seen: list[tuple[int, int]] = []

    def watch(done: int, steps: int, preview: Any) -> None:
        seen.append((done, steps))
        assert preview()[0].size == (32, 32)

    for sampler in ("ddim", "heun"):
        seen.clear()
        editor.edit(replace(EDIT, sampler=sampler), picture(), watch)
        assert seen == [(1, 2), (2, 2)]


def test_a_watcher_ends_the_edit(editor: Editor) -> None:
    with pytest.raises(Interrupted):
        editor.edit(EDIT, picture(), lambda done, steps, preview: True)


def test_weights_that_are_no_numbers_give_no_picture(folder: Path, oracle: Any) -> None:
    editor = Editor.open(replace(EDIT, model=str(folder)))
    editor.engine.components.unet.conv_in.weight.data.fill_(float("nan"))
    result = editor.edit(EDIT, picture())
    assert not result.finite


def test_an_overflow_of_the_autoencoder_is_retried_in_single_precision(folder: Path, oracle: Any) -> None:
    editor = Editor.open(replace(EDIT, model=str(folder), dtype="fp16"))
    conv_out = editor.engine.components.vae.decoder.conv_out
    editor.engine.components.vae.decoder.conv_norm_out.weight.data.mul_(60000.0)
    before = conv_out.weight.clone()
    result = editor.edit(EDIT, picture())
    assert result.finite
    assert torch.equal(conv_out.weight, before)
    assert conv_out.weight.dtype == torch.float16

    def full(module: Any, inputs: Any) -> None:
        if module.weight.dtype == torch.float32:
            raise MemoryError

    conv_out.register_forward_pre_hook(full)
    with pytest.raises(MemoryError):
        editor.edit(EDIT, picture())
    assert conv_out.weight.dtype == torch.float16, "the next picture finds the model as it was"


def test_the_safety_checker_judges_unless_it_is_off(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "sd15", checker=True)
    verdicts = {}
    for safety in ("flag", "off"):
        editor = Editor.open(replace(EDIT, model=str(tmp_path), safety=safety))
        if editor.engine.components.safety_checker is not None:
            editor.engine.components.safety_checker.concept_embeds_weights.data.fill_(-1.0)
        verdicts[safety] = editor.edit(EDIT, picture()).nsfw
    assert verdicts == {"flag": True, "off": None}


@pytest.mark.parametrize("changes", [{}, {"sampler": "heun", "prompt": "[a cat:a dog:1]"}], ids=str)
def test_offloaded_networks_make_the_same_picture_and_leave_the_device(editor: Editor, changes: dict[str, Any]) -> None:
    """Previews bring the autoencoder between two steps of the UNet."""
    offloaded = Editor(editor.engine.offloaded(torch.device("cpu")))
    edit = replace(EDIT, **changes)
    result = offloaded.edit(edit, picture(), lambda done, steps, preview: preview() and None)
    assert result.image.tobytes() == editor.edit(edit, picture()).image.tobytes()
    assert offloaded.engine.offload is not None
    assert offloaded.engine.offload.present is None


def test_another_autoencoder_is_taken(folder: Path, oracle: Any, editor: Editor) -> None:
    own = Editor.open(replace(EDIT, model=str(folder), vae=str(folder / "vae")))
    assert np.array_equal(pixels(own), pixels(editor))
    with pytest.raises(ModelError, match="autoencoder"):
        Editor.open(replace(EDIT, model=str(folder), vae=str(folder / "unet")))


@pytest.mark.parametrize(
    ("size", "native", "trained", "said", "changes"),
    [
        ((512, 384), 64, None, "trained at 64 px: the picture is worked on at 74 x 55", {}),
        ((64, 64), 64, None, "", {}),
        ((4000, 3000), None, 512, "is 4000 x 3000, far from the 512 x 512 .* try --max-side 592", {}),
        ((32, 32), None, 512, "is 32 x 32, far from the 512 x 512 .* try --size 512x512", {}),
        ((192, 128), None, 512, "try --size 624x416", {}),
        ((1024, 1024), None, 512, "try --max-side 512", {}),
        ((768, 768), None, 512, "", {}),
        ((256, 256), None, 512, "", {}),
        ((4000, 3000), None, None, "", {}),
        ((512, 384), 64, None, "far from the 64 x 64 .* try --max-side 72", {"resize": "none"}),
    ],
)
def test_what_is_said_of_a_size(
    size: tuple[int, int], native: int | None, trained: int | None, said: str, changes: dict[str, Any]
) -> None:
    told = advice(replace(EDIT, **changes), size, native, trained)
    assert re.search(said, told) if said else told == ""


def test_the_built_in_model_says_what_size_it_was_trained_at() -> None:
    editor = Editor.open(EDIT)
    assert editor.native_size == 64
    assert editor.canvas(EDIT, (512, 384)).padded == (76, 56)
    assert editor.canvas(EDIT, (66, 60)).work == (66, 60)
    assert editor.canvas(EDIT, (100, 90)).work == (67, 61)
    assert editor.canvas(EDIT, (24, 32)).work == (55, 74)
    assert editor.canvas(EDIT, (1, 300)).work == (1, 300)
    assert editor.canvas(replace(EDIT, resize="none"), (512, 384)).work == (512, 384)
    assert (STARTER_FOLDER / "model_index.json").is_file()


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 2, 4, 8, 64]), st.sampled_from([None, 16, 64]))
def test_a_canvas_gives_back_the_pictures_size(width: int, height: int, multiple: int, native: int | None) -> None:
    canvas = canvas_for((width, height), multiple, native)
    assert all(side % multiple == 0 and side >= 1 for side in canvas.padded)
    image = picture(width, height)
    assert canvas.fit(image).size == canvas.padded
    assert canvas.restore(canvas.fit(image)).size == (width, height)
    if canvas.work == canvas.picture:
        assert canvas.restore(canvas.fit(image)).tobytes() == image.tobytes()
