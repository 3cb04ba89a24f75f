"""Edits in each other's company give the pictures that they give alone, at one size, as some leave and some join."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.pipelines import picture, write_checkpoint

from sdedit_cli.engine.company import Result, Wish
from sdedit_cli.engine.editor import Editor
from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit

SIZE = 3
BASE = Edit(prompt="a cat", steps=5, strength=0.6, dtype="fp32", device="cpu", seed=1)
EDITS = [
    BASE,
    replace(BASE, prompt="a [dog:horse:0.5]", seed=2, strength=0.9),
    replace(BASE, sampler="heun", seed=3),
    replace(BASE, sampler="euler_a", seed=4, strength=1.0),
    replace(BASE, cfg_scale=1.0, seed=5),
    replace(BASE, freeu=(0.9, 0.2, 1.3, 1.4), seed=6),
    replace(BASE, negative_prompt="grey", seed=7, strength=0.3),
]


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Editor:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder, "sd15")
    return Editor.open(replace(BASE, model=str(folder)))


def made(editor: Editor, wishes: list[Wish]) -> dict[int | None, Any]:
    found = {wish.edit.seed: result for wish, result in editor.edits(wishes, SIZE)}
    assert len(found) == len(wishes)
    return found


def pixels(result: object) -> np.ndarray:
    assert isinstance(result, Result)
    return np.asarray(result.image)


@pytest.mark.parametrize("order", [1, -1])
def test_a_picture_does_not_depend_on_its_company(editor: Editor, order: int) -> None:
    wishes = [Wish(edit, picture()) for edit in EDITS][::order]
    together = made(editor, wishes)
    for wish in wishes:
        alone = made(editor, [wish])[wish.edit.seed]
        assert np.array_equal(pixels(together[wish.edit.seed]), pixels(alone)), wish.edit


def test_pictures_of_other_sizes_wait_for_each_other(editor: Editor) -> None:
    sizes = [(32, 32), (48, 32), (32, 32), (48, 32)]
    found = made(editor, [Wish(replace(BASE, seed=k), picture(*size)) for k, size in enumerate(sizes)])
    assert [found[k].image.size for k in range(len(sizes))] == sizes


def test_one_that_cannot_be_made_does_not_concern_the_others(editor: Editor) -> None:
    bad = replace(BASE, seed=8, clip_skip=99)
    found = made(editor, [Wish(BASE, picture()), Wish(bad, picture()), Wish(EDITS[1], picture())])
    assert isinstance(found[8], UsageError)
    assert isinstance(found[1], Result)
    assert isinstance(found[2], Result)


def test_a_prompt_is_encoded_once_whatever_the_strength(editor: Editor) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    encoder = editor.engine.components.text_encoder
    assert encoder is not None
    handle = encoder.register_forward_hook(count)
    one = replace(BASE, prompt="a prompt of its own")
    made(editor, [Wish(replace(one, seed=k, strength=s), picture()) for k, s in enumerate((0.4, 0.6, 1.0))])
    handle.remove()
    assert calls == 2, "once for it, once for the negative one"


def test_an_edit_alone_is_that_of_a_run(editor: Editor) -> None:
    ((_, result),) = editor.edits([Wish(BASE, picture())], 1)
    assert np.array_equal(pixels(result), pixels(editor.edit(BASE, picture())))


def test_on_real_layers_a_picture_does_not_depend_on_how_full_a_batch_is() -> None:
    # Kernels for tiny layers give the same bits in every memory layout, those of the built-in model do not.
    edit = Edit(prompt="a cat", steps=4, strength=0.5, dtype="fp32", device="cpu")
    editor = Editor.open(edit)
    wishes = [Wish(replace(edit, seed=seed), picture(64, 56)) for seed in range(4)]
    full = {wish.edit.seed: pixels(result) for wish, result in editor.edits(wishes, 4)}
    assert len(full) == 4
    for company in (wishes[:1], wishes[1:]):
        for wish, result in editor.edits(company, 4):
            assert np.array_equal(full[wish.edit.seed], pixels(result)), (len(company), wish.edit.seed)
