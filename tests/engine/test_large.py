"""Pictures beyond a model's size: edited in tiles, and textures whose edges meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint
from helpers.seams import borders, seam
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdedit_cli.engine.canvas import canvas_for
from sdedit_cli.engine.company import Result, Wish
from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.views import Views, views_of
from sdedit_cli.errors import UsageError
from sdedit_cli.nn import Tiles
from sdedit_cli.options import Edit, tile_of

EDIT = Edit(prompt="a cat", steps=4, strength=0.6, dtype="fp32", device="cpu", seed=1)
STROKES = Path(__file__).parents[2] / "presets" / "strokes"


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Editor:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder, "sd15")
    return Editor.open(replace(EDIT, model=str(folder)))


@pytest.fixture(scope="module")
def built_in() -> Editor:
    return Editor.open(EDIT)


@pytest.fixture
def shapes(editor: Editor) -> Iterator[list[torch.Size]]:
    """What the UNet is given, call by call."""
    seen: list[torch.Size] = []
    hook = editor.engine.components.unet.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    yield seen
    hook.remove()


def pixels(editor: Editor, edit: Edit, image: Image.Image) -> np.ndarray:
    result = editor.edit(edit, image)
    assert result.finite
    assert result.image.size == image.size
    return np.asarray(result.image).astype(int)


def test_a_tile_that_covers_the_picture_is_the_plain_edit(editor: Editor) -> None:
    image = picture(64, 48)
    assert np.array_equal(pixels(editor, replace(EDIT, tile="64"), image), pixels(editor, EDIT, image))


@pytest.mark.parametrize(
    "changes",
    [{}, {"sampler": "heun"}, {"sampler": "DPM++ 2M"}, {"sampler": "Euler a"}, {"prompt": "[a cat:a dog:1]"}],
    ids=str,
)
def test_every_sampler_and_prompt_works_in_tiles(editor: Editor, changes: dict[str, Any]) -> None:
    image, edit = picture(80, 56), replace(EDIT, **changes)
    tiled = pixels(editor, replace(edit, tile="32"), image)
    assert np.array_equal(tiled, pixels(editor, replace(edit, tile="32"), image))
    assert not np.array_equal(tiled, pixels(editor, edit, image))


def test_what_the_unet_sees_does_not_grow_with_the_picture(editor: Editor, shapes: list[torch.Size]) -> None:
    for side in (80, 128):
        editor.edit(replace(EDIT, tile="32"), picture(side, side))
    scale = editor.engine.components.vae.config.scale
    together = views_of(replace(EDIT, tile="32"), scale, 128, 128).together()
    assert set(shapes) == {torch.Size([2 * together, 4, 32 // scale, 32 // scale])}


def test_pictures_in_tiles_do_not_depend_on_their_company(editor: Editor) -> None:
    """Of one size, with and without tiles, at different steps of different schedules."""
    edits = [replace(EDIT, tile="32"), EDIT, replace(EDIT, tile="32", strength=0.8), replace(EDIT, tile="16", seed=4)]
    wishes = [Wish(edit, picture(56, 32, seed=k)) for k, edit in enumerate(edits)]
    together = {id(wish): result for wish, result in editor.edits(wishes, size=4)}
    for wish in wishes:
        ((_, alone),) = editor.edits([wish], size=4)
        among = together[id(wish)]
        assert isinstance(alone, Result)
        assert isinstance(among, Result)
        assert alone.image.tobytes() == among.image.tobytes()


@pytest.mark.parametrize(
    ("text", "kept"),
    [("512", (512, 128)), ("64", (64, 16)), ("16", (16, 8)), ("512:64", (512, 64)), (64, (64, 16))],
)
def test_a_tile_is_a_side_and_an_overlap(text: Any, kept: tuple[int, int]) -> None:
    tile = Edit(tile=text).tile
    assert tile is not None
    assert tile_of(tile) == kept
    assert Edit(tile=tile).tile == tile


@pytest.mark.parametrize(
    "text", ["", "8", "500", "512:0", "512:4", "512:264", "512:12", "9000", "5e2", "512:64:8", "-64"]
)
def test_what_is_no_tile_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"tile is .*expected a side from 16 to 8192"):
        Edit(tile=text)


def test_large_pictures_keep_their_size_on_a_model_that_was_trained_small(built_in: Editor) -> None:
    tiled = replace(EDIT, tile="64")
    assert built_in.canvas(tiled, (500, 300)).work == (500, 300)
    assert built_in.canvas(tiled, (20, 20)).work == (64, 64), "a picture smaller than a tile is still brought up"


@pytest.mark.parametrize("drawing", ["tree", "house"])
def test_no_seam_stands_out_where_tiles_meet(built_in: Editor, drawing: str) -> None:
    with Image.open(STROKES / f"{drawing}.png") as strokes:
        image = strokes.convert("RGB").resize((160, 160), Image.Resampling.BICUBIC)
    edit = replace(EDIT, prompt="green leaves", tile="64", strength=0.4, cfg_scale=4.0, steps=10)
    result = pixels(built_in, edit, image)
    scale = built_in.engine.components.vae.config.scale
    lines = borders([start * scale for start in Tiles(16, 4).starts(160 // scale, False)], 64, 160)
    assert len(lines) == 4, "two tiles end and two begin within the picture"
    for axis in (0, 1):
        across, within = seam(result, axis, lines)
        assert across <= within


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("tiles", [None, Tiles(8, 2)], ids=["whole", "tiles"])
def test_networks_know_no_edge_along_an_axis_that_wraps(editor: Editor, axis: int, tiles: Tiles | None) -> None:
    """What they make of a moved picture is what they make of the picture, moved: by the step that they halve to, or
    that tiles are apart. Along the other axis there are edges."""
    engine, far = editor.engine, 8
    wrap = (axis == 3, axis == 2)
    views = Views(tiles and replace(tiles, wrap=wrap), tiles and replace(tiles, wrap=wrap), wrap)
    side = 24 if tiles else 16
    latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    text = torch.randn(1, 32, engine.components.unet.config.cross_attention_dim)
    context = engine.components.unet.context(text).rows([0] * views.together())
    emb = engine.components.unet.embed_time(torch.tensor([500]).repeat(views.together()))

    def unet(x: torch.Tensor) -> torch.Tensor:
        return views.predict(engine.components.unet, lambda part: engine.components.unet(part, emb, context), x)

    def decoder(x: torch.Tensor) -> torch.Tensor:
        return engine.decode(x, views)[0]

    if tiles:
        far = tiles.starts(side, True)[1]
    with torch.no_grad():
        for network, factor in ((unet, 1), (decoder, engine.components.vae.config.scale)):
            for along, same in ((axis, True), (5 - axis, False)):
                moved = network(latents.roll(far, along))
                expected = network(latents).roll(far * factor, along)
                assert torch.allclose(moved, expected, atol=1e-4) is same


def test_the_encoder_wraps_too_and_plain_edits_after_it_do_not(editor: Editor) -> None:
    image = picture(64, 64)
    plain = pixels(editor, EDIT, image)
    around = pixels(editor, replace(EDIT, seamless="xy"), image)
    assert not np.array_equal(plain, around)
    assert np.array_equal(pixels(editor, EDIT, image), plain)


@given(st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans(), st.sampled_from([None, 64]))
def test_what_wraps_is_never_padded(width: int, height: int, x: bool, y: bool, native: int | None) -> None:
    canvas = canvas_for((width, height), 4, native, (x, y), even=16)
    for wraps, work, padded in zip((x, y), canvas.work, canvas.padded, strict=True):
        assert padded % (16 if wraps else 4) == 0
        assert work == padded or not wraps
    image = picture(width, height)
    assert canvas.fit(image).size == canvas.padded
    assert canvas.restore(canvas.fit(image)).size == (width, height)


def test_a_period_survives_scaling(built_in: Editor) -> None:
    """A texture that repeats, of a size that the model cannot halve, comes back as one: moved or not."""
    y, x = np.mgrid[:50, :50] * (2 * np.pi / 50)
    wave = np.stack([np.sin(x) + np.cos(y), np.sin(2 * x), np.cos(y)], axis=-1)
    texture = np.uint8(127.5 + 60 * wave)
    canvas = built_in.canvas(replace(EDIT, seamless="xy"), (50, 50))
    assert canvas.work == (64, 64)

    def back(values: np.ndarray) -> np.ndarray:
        return np.asarray(canvas.restore(canvas.fit(Image.fromarray(values)))).astype(int)

    moved = back(np.roll(texture, 25, (0, 1)))
    assert np.abs(moved - np.roll(back(texture), 25, (0, 1))).max() <= 1


@pytest.mark.parametrize("tile", [None, "64"])
def test_no_seam_stands_out_where_the_edges_of_a_texture_meet(built_in: Editor, tile: str | None) -> None:
    rng = np.random.default_rng(0)
    coarse = np.tile(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (3, 3, 1))
    texture = Image.fromarray(coarse).resize((288, 288), Image.Resampling.BICUBIC).crop((96, 96, 192, 192))
    edit = replace(EDIT, prompt="flowers", strength=0.5, cfg_scale=4.0, steps=10, seamless="xy", tile=tile)
    result = pixels(built_in, edit, texture)
    for axis in (0, 1):
        across, within = seam(result, axis, [0])
        assert across <= within
