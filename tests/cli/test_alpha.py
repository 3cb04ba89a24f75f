"""`--alpha edit`: the transparency is edited with the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cli import QUICK
from PIL import Image, ImageDraw, ImageFilter

from sdedit_cli.cli.main import run
from sdedit_cli.options import Edit
from sdedit_cli.pictures.matting import matted
from sdedit_cli.pictures.prepared import prepared

WORDS = ("-p", "3d emoji of a red apple", "-q", *QUICK)
INK = (200, 40, 30)


def sprite(path: Path, *, soft: float = 0.7, opacity: int = 255, ink: tuple[int, int, int] = INK) -> Image.Image:
    """A disc on nothing, with a hole and soft edges."""
    alpha = Image.new("L", (64, 64))
    ImageDraw.Draw(alpha).ellipse((10, 10, 50, 50), fill=opacity)
    ImageDraw.Draw(alpha).ellipse((24, 24, 34, 34), fill=0)
    image = Image.new("RGB", (64, 64), ink)
    image.putalpha(alpha.filter(ImageFilter.GaussianBlur(soft)) if soft else alpha)
    image.save(path)
    return image


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA")).astype(int)


def test_a_model_that_changes_nothing_leaves_the_very_picture(folder: Path) -> None:
    given = sprite(folder / "a.png")
    picture = prepared("a.png", 100, Edit(alpha="edit"))
    colours, alpha = matted(picture.rgb, picture)
    assert colours.tobytes() == given.convert("RGB").tobytes()
    assert alpha.tobytes() == given.getchannel("A").tobytes()


@pytest.mark.parametrize(("opacity", "off"), [(255, 8), (128, 20)])
def test_the_shape_of_the_result_is_that_of_what_was_drawn(folder: Path, opacity: int, off: int) -> None:
    """Another shape in other colours over the ground: clear outside of it and in its hole, as opaque as the input's
    thing inside, with its own colours up to the edge."""
    sprite(folder / "a.png", opacity=opacity)
    picture = prepared("a.png", 100, Edit(alpha="edit"))
    assert picture.ground == (255, 255, 255)
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((6, 16, 56, 54), fill=opacity)
    ImageDraw.Draw(mask).ellipse((24, 24, 34, 34), fill=0)
    wanted = mask.filter(ImageFilter.GaussianBlur(0.7))
    drawn = Image.composite(Image.new("RGB", (64, 64), (20, 60, 220)), Image.new("RGB", (64, 64), "white"), wanted)
    colours, alpha = matted(drawn, picture)
    # What is nearly clear is clear.
    assert np.abs(np.asarray(alpha).astype(int) - np.asarray(wanted)).max() <= 20
    visible = np.asarray(alpha) > 30
    assert np.abs(np.asarray(colours).astype(int)[visible] - [20, 60, 220]).max() <= off


def test_light_inside_of_a_thing_is_no_hole(folder: Path) -> None:
    sprite(folder / "a.png")
    picture = prepared("a.png", 100, Edit(alpha="edit"))
    drawn = picture.rgb.copy()
    ImageDraw.Draw(drawn).rectangle((16, 36, 22, 42), fill="white")
    colours, alpha = matted(drawn, picture)
    assert alpha.getpixel((19, 39)) == 255
    assert colours.getpixel((19, 39)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("ink", "more", "ground"),
    [(INK, {}, (255, 255, 255)), ((250, 250, 245), {}, (128, 128, 128)), (INK, {"background": "lime"}, (0, 255, 0))],
)
def test_the_ground_is_one_that_the_colours_are_told_from(
    folder: Path, ink: tuple[int, int, int], more: dict[str, str], ground: tuple[int, int, int]
) -> None:
    sprite(folder / "a.png", ink=ink)
    picture = prepared("a.png", 100, Edit(alpha="edit", **more))
    assert (picture.ground, picture.rgb.getpixel((0, 0))) == (ground, ground)


def test_the_alpha_of_the_result_is_another_one_and_replayed(folder: Path) -> None:
    given = levels(sprite(folder / "a.png"))
    assert run(["run", "a.png", *WORDS, "--alpha", "edit", "--strength", "0.7", "-o", "x.png"]) == 0
    with Image.open("x.png") as image:
        made = levels(image)
    assert (made[..., 3] != given[..., 3]).any()
    assert (made[..., 3] == 0).any()
    assert (made[..., 3] == 255).any()
    assert run(["run", "a.png", "--like", "x.png", "-q", "--device", "cpu", "-o", "y.png"]) == 0
    assert Path("y.png").read_bytes() == Path("x.png").read_bytes()


def test_what_a_mask_keeps_has_its_colours_and_its_alpha(folder: Path) -> None:
    given = levels(sprite(folder / "a.png", opacity=160))
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)
    mask.save("m.png")
    for bits in ("8", "16"):
        masked = ("--mask", "m.png", "--bits", bits, "-o", f"{bits}.png")
        assert run(["run", "a.png", *WORDS, "--alpha", "edit", *masked]) == 0
        with Image.open(f"{bits}.png") as image:
            made = levels(image)
        assert (made[:, :32] == given[:, :32]).all()
        assert (made[:, 32:] != given[:, 32:]).any()


def test_a_ground_that_is_painted_over_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever waits for a cut-out picture hears that there is none; an opaque input has nothing to lose."""
    sprite(folder / "a.png")
    Image.new("RGB", (64, 64), INK).save("b.png")
    words = [word for word in WORDS if word != "-q"]
    over = ("--background", "lime", "--strength", "1", "-o", "x.png")
    assert run(["run", "a.png", *words, "--alpha", "edit", *over]) == 0
    assert "painted over the ground" in capfd.readouterr().err
    assert run(["run", "b.png", *words, "--alpha", "edit", "-o", "y.png"]) == 0
    assert "ground" not in capfd.readouterr().err
    with Image.open("y.png") as image:
        assert image.mode == "RGB"


def test_frames_have_one_ground_and_each_its_alpha(folder: Path) -> None:
    frames = [sprite(folder / "f.png", ink=ink) for ink in (INK, (250, 250, 245))]
    frames[0].save("a.webp", save_all=True, append_images=frames[1:], lossless=True, exact=True, duration=80)
    picture = prepared("a.webp", 100, Edit(alpha="edit", frames="all"))
    assert picture.film is not None
    assert {frame.ground for frame in picture.film.frames} == {(255, 255, 255)}
    assert run(["run", "a.webp", *WORDS, "--alpha", "edit", "--frames", "all", "-o", "x.webp"]) == 0
    with Image.open("x.webp") as image:
        assert getattr(image, "n_frames", 1) == 2
        image.seek(0)
        assert levels(image)[..., 3].min() == 0


@pytest.mark.parametrize("name", ["x.webp", "x.png"])
def test_an_animation_of_how_it_forms_stands_on_the_ground(folder: Path, name: str) -> None:
    """Its frames have no alpha but the last: none of them is cut by that of the input."""
    sprite(folder / "a.png")
    assert run(["run", "a.png", *WORDS, "--alpha", "edit", "--animate", name, "-o", "made.png"]) == 0
    with Image.open(name) as image:
        assert levels(image)[..., 3].min() == 255
