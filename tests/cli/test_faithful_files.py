"""Transparency, colours and depth of the files that are written, as they were asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import QUICK, one_line, photo
from helpers.deep import SRGB, samples, swapped
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.carriers import find
from sdedit_cli.pictures.codec import Film, Picture
from sdedit_cli.pictures.encode import encode, encode_film
from sdedit_cli.pictures.png16 import deepened, levels
from sdedit_cli.pictures.prepared import prepared

WORDS = ("-p", "a cat", "-q", *QUICK)


@pytest.mark.parametrize(("more", "ground"), [([], (255, 255, 255)), (["--background", "#0080ff"], (0, 128, 255))])
def test_a_dropped_alpha_gives_an_opaque_picture_on_its_ground(folder: Path, more: list[str], ground: tuple) -> None:
    image = Image.new("RGBA", (64, 48), (200, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 32, 48))
    image.save(folder / "a.png")
    assert run(["run", "a.png", *WORDS, "--alpha", "drop", "-o", "x.png", *more]) == 0
    assert run(["run", "a.png", *WORDS, "-o", "y.png", *more]) == 0
    with Image.open("x.png") as dropped, Image.open("y.png") as kept, Image.open("a.png") as given:
        assert (dropped.mode, kept.mode) == ("RGB", "RGBA")
        assert kept.getchannel("A").tobytes() == given.getchannel("A").tobytes()
    background = {"background": more[1]} if more else {}
    picture = prepared("a.png", 100, Edit(alpha="drop", **background))
    assert picture.alpha is None
    assert picture.rgb.getpixel((60, 20)) == ground


def test_colours_are_brought_to_srgb_by_the_profile(folder: Path) -> None:
    base = Image.new("RGB", (64, 48), (200, 60, 20))
    base.save(folder / "a.png", icc_profile=swapped())
    assert run(["run", "a.png", *WORDS, "--to-srgb", "-o", "x.png"]) == 0
    with Image.open("x.png") as image:
        assert "icc_profile" not in image.info
    picture = prepared("a.png", 100, Edit(to_srgb=True))
    assert picture.icc is None
    assert np.abs(np.asarray(picture.rgb)[0, 0].astype(int) - [20, 60, 200]).max() <= 3
    assert prepared("a.png", 100, Edit()).icc == swapped()
    # sRGB itself stays what it is, and without a profile there is nothing to do.
    photo(folder / "b.png", icc_profile=SRGB)
    photo(folder / "c.png")
    plain = [np.asarray(prepared(name, 100, Edit(to_srgb=True)).rgb).astype(int) for name in ("b.png", "c.png")]
    assert np.abs(plain[0] - plain[1]).max() <= 1


def test_a_format_without_profiles_shows_the_colours_of_the_profile() -> None:
    frames = [Image.new("RGB", (32, 24), (200, 60, blue)) for blue in (0, 40)]
    with Image.open(io.BytesIO(encode(frames[1], None, swapped(), "gif"))) as still:
        assert np.abs(np.asarray(still.convert("RGB"))[0, 0].astype(int) - [40, 60, 200]).max() <= 3
    film = Film(tuple(Picture(one, None, swapped(), "") for one in frames), (100.0, 100.0), 0)
    with Image.open(io.BytesIO(encode_film(film, frames, "gif", {}))) as moving:
        for n, blue in enumerate((0, 40)):
            moving.seek(n)
            assert np.abs(np.asarray(moving.convert("RGB"))[0, 0].astype(int) - [blue, 60, 200]).max() <= 3
    with Image.open(io.BytesIO(encode(frames[1], None, swapped(), "png"))) as kept:
        assert kept.info["icc_profile"] == swapped()
        assert kept.getpixel((0, 0)) == (200, 60, 40)


def masked(source: str, out: str, *more: str) -> Image.Image:
    Image.linear_gradient("L").resize((64, 48)).save("mask.png")
    assert run(["run", source, *WORDS, "--mask", "mask.png", *more, "-o", out]) == 0
    with Image.open(out) as image:
        image.load()
        return image


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.gif"])
def test_colours_brought_to_srgb_have_no_profile_under_a_mask_either(folder: Path, name: str) -> None:
    photo(folder / "a.png", icc_profile=swapped())
    assert "icc_profile" not in masked("a.png", name, "--to-srgb").info


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif"])
@pytest.mark.parametrize("source", ["a.jpg", "a.gif"])
def test_a_comment_of_the_input_is_in_no_output(folder: Path, source: str, name: str) -> None:
    photo(folder / source, comment=b"between us")
    masked(source, name, "--strip", "--no-metadata")
    assert b"between us" not in Path(name).read_bytes()


def test_a_frame_of_an_animation_is_a_still_under_a_mask_too(folder: Path) -> None:
    frames = [Image.new("RGB", (64, 48), (80 * n, 0, 0)) for n in range(3)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:], duration=70, loop=0)
    assert not {"loop", "duration"} & set(masked("a.gif", "x.gif").info)


def test_sixteen_bits_are_the_models_own_numbers(folder: Path) -> None:
    photo(folder / "a.png", mode="RGBA", icc_profile=SRGB)
    assert run(["run", "a.png", *WORDS, "-o", "deep.png", "--bits", "16"]) == 0
    assert run(["run", "a.png", *WORDS, "-o", "plain.png"]) == 0
    assert run(["run", "a.png", "--like", "deep.png", "-q", "--device", "cpu", "-o", "again.png"]) == 0
    data = Path("deep.png").read_bytes()
    assert Path("again.png").read_bytes() == data
    deep = samples(data)
    with Image.open("plain.png") as image:
        shallow = np.asarray(image).astype(int)
    assert deep.shape == shallow.shape
    assert np.abs(deep[..., :3] / 257 - shallow[..., :3]).max() <= 1
    assert (deep[..., 3] == shallow[..., 3] * 257).all()
    assert len(np.unique(deep[..., :3])) > 256
    inside = deep[..., :3][(deep[..., :3] > 0) & (deep[..., :3] < 65535)]
    assert (inside % 257 != 0).mean() > 0.95  # no levels of 8 bits, stretched
    assert find("deep.png").exact
    with Image.open("deep.png") as image:
        assert image.info["icc_profile"] == SRGB
        assert "DigitalSourceType" in image.info["XML:com.adobe.xmp"]


def test_what_was_laid_over_the_models_numbers_stays_as_it_is() -> None:
    numbers = np.full((4, 4, 3), 100.4 / 255, np.float32)
    picture = np.full((4, 4, 3), 100, np.uint8)
    picture[:2] = 7
    deep = levels(Image.fromarray(picture), numbers, None)
    assert (deep[:2] == 7 * 257).all()
    assert (deep[2:] == round(100.4 * 257)).all()
    shallow = Image.fromarray(picture)
    assert np.array_equal(samples(deepened(encode(shallow, None, None, "png"), deep)), deep)


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (["--bits", "16"], "x.jpg", "take --format png"),
        (["--bits", "12"], "x.png", "expected 8 or 16"),
        (["--lossless"], "x.jpg", "take --format webp or png"),
        (["--lossless", "--quality", "80"], "x.webp", "exclude each other"),
        (["--alpha", "sideways"], "x.png", "keep"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_runs(
    folder: Path, options: list[str], name: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", *WORDS, *options, "-o", name]) == 2
    assert words in one_line(capfd.readouterr().err)
    assert not Path(name).exists()


def test_a_webp_without_loss_is_the_very_picture(folder: Path) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", *WORDS, "--lossless", "-o", "x.webp"]) == 0
    assert run(["run", "a.png", *WORDS, "-o", "x.png"]) == 0
    with Image.open("x.webp") as one, Image.open("x.png") as other:
        assert one.convert("RGB").tobytes() == other.tobytes()
    # So it is of the picture that is made again, in a format that can be that; a PNG always is.
    like = ["run", "a.png", "--like", "x.webp", "-q", "--device", "cpu"]
    assert [run([*like, "-o", name]) for name in ("y.webp", "y.png", "y.jpg")] == [0, 0, 0]
    assert Path("y.webp").read_bytes() == Path("x.webp").read_bytes()
    assert run(["run", "a.png", *WORDS, "--lossless", "-o", "z.png"]) == 0
    assert Path("z.png").read_bytes() == Path("x.png").read_bytes()


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_alpha_is_kept_level_for_level(format: str) -> None:
    try:
        rgb, alpha = Image.new("RGB", (64, 64), (9, 99, 200)), Image.linear_gradient("L").resize((64, 64))
        with Image.open(io.BytesIO(encode(rgb, alpha, None, format))) as image:
            assert image.getchannel("A").tobytes() == alpha.tobytes()
    except (KeyError, OSError):
        pytest.skip(f"this Pillow has no {format}")


def test_a_pillow_without_avif_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    from sdedit_cli.pictures.encode import check_format

    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(UsageError, match="writes no AVIF"):
        check_format("avif")
    check_format("webp")
